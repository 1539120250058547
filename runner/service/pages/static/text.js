/**
 * Text that others have written, as text: never markup, and with nothing hidden in it.
 *
 * Elements are made here only, and a string can only become their text or an attribute's value.
 */

// The same characters as in runner/display.py: what is not visible, a tab or a newline.
const UNSAFE =
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufdd0-\ufdef\ufeff\ufff9-\uffff\u{e0000}-\u{e0fff}]/gu;

// What stands for an array or another object: nobody reads its bytes.
const PACKED = /("__value__": ?")[^"]{25,}(?=")/g;
const MOST_PACKED = 1 << 16;

const SVG = "http://www.w3.org/2000/svg";

/** Return the text with every character escaped that is not visible, a tab or a newline. */
export function visible(text) {
  return text.replace(UNSAFE, (character) => {
    const code = character.codePointAt(0);
    if (code <= 0xff) return `\\x${code.toString(16).padStart(2, "0")}`;
    if (code <= 0xffff) return `\\u${code.toString(16).padStart(4, "0")}`;
    return `\\U${code.toString(16).padStart(8, "0")}`;
  });
}

/** Return the visible text; if it is cut after `most` characters, with its length. */
export function shortened(text, most) {
  if (text.length <= most) return visible(text);
  return `${visible(text.slice(0, most))} … (${text.length} characters)`;
}

/** Return the JSON text of a message without the bytes of arrays, cut as `shortened` does. */
export function brief(body, most) {
  return shortened(body.length > MOST_PACKED ? body : body.replace(PACKED, "$1…"), most);
}

/** Return a new element with these attributes; a child is a node, or a text from us or others. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Return a new element of a drawing. */
export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children); // a string becomes a text node
  return made;
}

/**
 * A field's numbers as a line: the same elements as in templates/_parts.html, drawn again as they
 * come.  Only the line is a drawing, and is stretched; what is read is text beside it.
 */

import { drawn, element, shortened } from "./text.js";

const WIDTH = 1000;
const HEIGHT = 100;
const MOST_TITLE = 60;

/** One line that can be drawn again and again in the same place. */
export class Chart {
  #caption = element("figcaption");
  #line = drawn("polyline", { class: "line" });
  #ends = ["greatest", "least", "first", "last"].map((name) => element("span", { class: name }));

  constructor(name) {
    this.title = name === "" ? "the message itself" : shortened(name, MOST_TITLE);
    const picture = {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `${this.title} as a line, by message`,
    };
    const svg = drawn("svg", picture, this.#line);
    this.figure = element("figure", { class: "chart" }, this.#caption, svg, ...this.#ends);
  }

  /** Draw these points, of which there is at least one. */
  draw(points, leftOut) {
    const found = points.drawn();
    const ys = found.map(([, y]) => y);
    const [low, high] = [Math.min(...ys), Math.max(...ys)];
    const [from, to] = [found[0][0], found.at(-1)[0]];
    const across = (x) => ((x - from) / (to - from || 1)) * WIDTH;
    const down = (y) => (1 - (y - low) / (high - low || 1)) * HEIGHT;
    const places = found.map(([x, y]) => `${across(x).toFixed(1)},${down(y).toFixed(1)}`);
    this.#line.setAttribute("points", places.join(" "));

    const texts = [short(high), low === high ? "" : short(low), `message ${from}`, `message ${to}`];
    this.#ends.forEach((each, n) => (each.textContent = texts[n]));
    const notes = [`${points.count} values`, `the last ${short(points.last[1])}`];
    if (points.every > 1) notes.push(`drawn: least and greatest of each ${points.every}`);
    if (leftOut) notes.push(`${leftOut} more are not finite, or too large`);
    this.#caption.replaceChildren(element("b", {}, this.title), ` ${notes.join(", ")}`);
  }
}

/** Return a number with six digits that count. */
function short(number) {
  return String(Number(number.toPrecision(6)));
}

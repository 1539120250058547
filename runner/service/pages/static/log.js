/**
 * The log: its newest lines, which can be searched, and followed as they come.
 */

import { Rows } from "./rows.js";
import { element, shortened } from "./text.js";

const MOST_LINES = 2000;
const MOST_CHARS = 4000; // of one line

export class Log {
  /** The log with its tools. */
  element = element("div");

  #box;
  #rows;
  #search = element("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  #follow = element("input", { type: "checkbox" });
  #found = element("output");

  /** Take over the element `box`, whose text is the log so far. */
  constructor(box) {
    const tools = element(
      "p",
      { class: "tools" },
      element("label", {}, "Search the log ", this.#search),
      element("label", {}, this.#follow, " Follow"),
      this.#found,
    );
    box.replaceWith(this.element);
    this.element.append(tools, box);

    const text = box.textContent;
    box.replaceChildren();
    this.#box = box;
    this.#rows = new Rows(box, MOST_LINES);
    this.add(text);
    this.draw();

    this.#follow.checked = true;
    this.#search.addEventListener("input", () => this.#filter());
    box.addEventListener("scroll", () => (this.#follow.checked = this.#rows.follows));
    this.#follow.addEventListener("change", () => {
      this.#rows.follows = this.#follow.checked;
      if (this.#rows.follows) this.#rows.toEnd();
    });
  }

  /** Note more of the log: one or more lines. */
  add(text) {
    const lines = text.split("\n");
    if (lines.at(-1) === "") lines.pop();
    for (const line of lines.slice(-MOST_LINES)) this.#rows.add(() => this.#row(line));
  }

  /** Show what has been added. */
  draw() {
    this.#rows.draw();
    if (this.#isFiltered) this.#count();
  }

  #row(line) {
    const row = element("div", {}, shortened(line, MOST_CHARS) || "\u00a0"); // as high as others
    row.hidden = !this.#matches(row);
    return row;
  }

  get #isFiltered() {
    return this.#search.value !== "";
  }

  #matches(row) {
    return row.textContent.toLowerCase().includes(this.#search.value.toLowerCase());
  }

  #filter() {
    for (const row of this.#box.children) row.hidden = !this.#matches(row);
    this.#count();
    if (this.#rows.follows) this.#rows.toEnd();
  }

  #count() {
    const rows = [...this.#box.children];
    const found = rows.filter((row) => !row.hidden).length;
    this.#found.value = this.#isFiltered ? `${found} of ${rows.length} lines` : "";
  }
}

/**
 * The newest rows of a list that only grows: what is shown has a maximum, however long it runs.
 */

export class Rows {
  /** Whether the newest rows are kept in view: while the reader is at the end of the list. */
  follows = true;

  #list;
  #most;
  #waiting = [];

  /** `list` is the element that has the rows, and scrolls; it keeps the newest `most` of them. */
  constructor(list, most) {
    this.#list = list;
    this.#most = most;
    this.toEnd();
    list.addEventListener("scroll", () => {
      this.follows = list.scrollTop + list.clientHeight >= list.scrollHeight - 4;
    });
  }

  /** Note a row, a function that makes its element; it is made only if it is shown. */
  add(make) {
    this.#waiting.push(make);
    if (this.#waiting.length > 2 * this.#most) this.#forget();
  }

  /** Show the rows that wait. */
  draw() {
    if (this.#waiting.length === 0) return;
    this.#forget();
    const surplus = this.#list.childElementCount + this.#waiting.length - this.#most;
    for (let n = 0; n < surplus; n++) this.#list.firstElementChild.remove();
    this.#list.append(...this.#waiting.map((make) => make()));
    this.#waiting = [];
    if (this.follows) this.toEnd();
  }

  /** Bring the newest rows into view. */
  toEnd() {
    this.#list.scrollTop = this.#list.scrollHeight;
  }

  /** Remove all rows. */
  clear() {
    this.#list.replaceChildren();
    this.#waiting = [];
  }

  #forget() {
    this.#waiting.splice(0, Math.max(this.#waiting.length - this.#most, 0));
  }
}

/**
 * The numbers in messages: of each field a line of bounded length, as runner/pictures/series.py
 * finds them.  Messages are data from a program, and may hold anything.
 */

const MOST_FIELDS = 32;
const MOST_KEYS = 256;
const MOST_ITEMS = 8; // of a message that is a list: a longer one is an array
const GREATEST = 1e150; // beyond, computations could overflow
const MOST_GROUPS = 500;

/** The points of a line, thinned so that no peak is lost: of each group the least and greatest. */
export class Points {
  #groups = []; // of `every` points each, but for the last
  #size = 0; // of the last
  every = 1;
  count = 0;

  add(x, y) {
    this.count += 1;
    const last = this.#groups.at(-1);
    if (last && this.#size < this.every) {
      this.#size += 1;
      if (y < last.least[1]) last.least = [x, y];
      if (y > last.greatest[1]) last.greatest = [x, y];
    } else {
      if (this.#groups.length === MOST_GROUPS) this.#halve();
      this.#groups.push({ least: [x, y], greatest: [x, y] });
      this.#size = 1;
    }
    this.last = [x, y];
  }

  /** Return the points to draw, from left to right. */
  drawn() {
    const found = [];
    for (const { least, greatest } of this.#groups) {
      if (least[0] === greatest[0]) found.push(least);
      else found.push(...(least[0] < greatest[0] ? [least, greatest] : [greatest, least]));
    }
    return found;
  }

  #halve() {
    const halved = [];
    for (let n = 0; n < this.#groups.length; n += 2) {
      const [one, two] = [this.#groups[n], this.#groups[n + 1]];
      halved.push({
        least: two.least[1] < one.least[1] ? two.least : one.least,
        greatest: two.greatest[1] > one.greatest[1] ? two.greatest : one.greatest,
      });
    }
    this.#groups = halved;
    this.every *= 2;
  }
}

/** The numbers of all messages so far, by field; the field of a message that is a number is "". */
export class Numbers {
  #fields = new Map();

  /** Begin with the lines of earlier messages, as the service has thinned them. */
  constructor(earlier = []) {
    for (const { name, points, count, left_out: leftOut } of earlier) {
      const field = { name, points: new Points(), counts: false, leftOut };
      for (const [x, y] of points) field.points.add(x, y);
      field.points.count = count;
      this.#fields.set(name, field);
    }
  }

  /** Add the numbers of one message. */
  add(seq, body) {
    for (const [name, value] of named(body)) {
      const number = numberOf(value);
      if (number === null || name === "progress") continue;
      let field = this.#fields.get(name);
      if (!field) {
        if (this.#fields.size === MOST_FIELDS) continue;
        field = { name, points: new Points(), counts: true, leftOut: 0 };
        this.#fields.set(name, field);
      }
      if (Math.abs(number) <= GREATEST) {
        const before = field.points.last?.[1] ?? -Infinity;
        field.counts &&= Number.isSafeInteger(number) && number > before;
        field.points.add(seq, number);
      } else {
        field.counts = false;
        field.leftOut += 1; // not finite, or too large
      }
    }
  }

  /** Return the first fields worth a line: those with several numbers that do not merely count. */
  obvious(most) {
    const several = [...this.#fields.values()].filter((field) => field.points.count > 1);
    return several.filter((field) => !field.counts).slice(0, most);
  }
}

function named(body) {
  if (Array.isArray(body)) {
    return body.length <= MOST_ITEMS ? body.map((each, n) => [`/${n}`, each]) : [];
  }
  if (body === null || typeof body !== "object" || "__type__" in body) return [["", body]];
  const found = [];
  for (const name in body) {
    if (found.push([name, body[name]]) === MOST_KEYS) break;
  }
  return found;
}

/** Return a number, plain or as NumPy's scalars and NaN are sent; null for anything else. */
function numberOf(value) {
  if (typeof value === "number") return value;
  const { __type__: type, __value__: inner } = value ?? {};
  if (type === "float" && typeof inner === "string") return inner.length < 9 ? NaN : null;
  if (type === "numpy" && Array.isArray(inner) && inner.length === 2) {
    return typeof inner[1] === "number" ? inner[1] : null;
  }
  return null;
}

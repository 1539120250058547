/**
 * Counts by bit string in messages, as a table with bars.
 */

import { element, shortened } from "./text.js";

const BIT_STRING = /^(0x[0-9a-f]+|[01][01 ]*)$/i;
const MOST_SEARCHED = 1000; // parts of a message
const MOST_BARS = 16;
const MOST_KEY = 64;
const BAR = 30; // characters of the longest

/** Return the first object of whole numbers by bit string in a message, null if there is none. */
export function countsIn(body) {
  const queue = [body];
  for (let n = 0; n < Math.min(queue.length, MOST_SEARCHED); n++) {
    const part = queue[n];
    if (part === null || typeof part !== "object") continue;
    if (areCounts(part)) return part;
    for (const name in part) {
      if (queue.length === MOST_SEARCHED) break;
      queue.push(part[name]);
    }
  }
  return null;
}

function areCounts(part) {
  let total = 0;
  for (const name in part) {
    if (!BIT_STRING.test(name)) return false;
    if (!Number.isSafeInteger(part[name]) || part[name] < 0) return false;
    total += part[name];
  }
  return total > 0 && !Array.isArray(part);
}

/** Return the most frequent outcomes as a table, like the macro `bars` in templates/_parts.html. */
export function table(caption, counts) {
  const heads = ["Outcome", "Times", "Share"].map((text) => element("th", { scope: "col" }, text));
  return element(
    "table",
    {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...heads, element("td"))),
    element("tbody", {}, ...rows(counts)),
  );
}

function rows(counts) {
  const pairs = Object.entries(counts).sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  const total = pairs.reduce((sum, [, count]) => sum + count, 0);
  const share = (count) => `${((100 * count) / total).toFixed(1)}%`;
  const found = pairs.slice(0, MOST_BARS).map(([key, count]) => {
    const bar = "█".repeat(Math.round((BAR * count) / pairs[0][1]));
    return row(element("code", {}, shortened(key, MOST_KEY)), String(count), share(count), bar);
  });
  if (pairs.length > MOST_BARS) {
    const rest = pairs.slice(MOST_BARS).reduce((sum, [, count]) => sum + count, 0);
    found.push(row(`${pairs.length - MOST_BARS} more`, String(rest), share(rest), ""));
  }
  return found;
}

function row(key, count, share, bar) {
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, key),
    element("td", { class: "number" }, count),
    element("td", { class: "number" }, share),
    element("td", { class: "bar", "aria-hidden": "true" }, bar),
  );
}

/**
 * The events of a job, over a connection that may break: none is lost, and none comes twice.
 *
 * Read with `fetch`, not `EventSource`: a slow page then slows the service's end of the connection,
 * nothing piles up in between, and an answer such as "signed out" can be told from a lost network.
 */

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5000;

/** The most characters of an event that are kept; of a longer one, only the beginning. */
export const MOST_CHARS = (1 << 20) + 4096;

/** The service refuses the events: to ask again would not help. */
export class RefusedError extends Error {
  name = "RefusedError";

  constructor(status) {
    super(`the service answers ${status}`);
    this.status = status;
  }
}

/**
 * Yield the events after number `last` as `{number, kind, text, isWhole}` until the one of the kind
 * "finished"; `text` is its JSON.  Connects again whenever the connection breaks.
 *
 * `tell(pauseMs)` is called with 0 when connected, else with the time until the next try.
 * `signal` ends it.  Throws RefusedError.
 */
export async function* events(address, last, { signal, tell }) {
  let pauseMs = FIRST_PAUSE_MS;
  while (!signal.aborted) {
    try {
      const response = await opened(address, last, signal);
      tell(0);
      for await (const event of parsed(response.body)) {
        yield event;
        if (event.kind === "finished") return;
        last = event.number;
        pauseMs = FIRST_PAUSE_MS;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof RefusedError) throw error;
    }
    tell(pauseMs);
    await pause(pauseMs, signal);
    pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
  }
}

async function opened(address, last, signal) {
  const headers = last >= 0 ? { "Last-Event-ID": String(last) } : {};
  const response = await fetch(address, { headers, signal, cache: "no-store" });
  if ([401, 403, 404].includes(response.status)) throw new RefusedError(response.status);
  if (!response.ok) throw new Error(`HTTP ${response.status}`); // busy, or about to end: later
  return response;
}

/** Yield the events in a body of the type text/event-stream. */
async function* parsed(body) {
  let number = -1;
  for await (const { text, isWhole } of lines(body)) {
    if (text.startsWith("id: ")) number = Number(text.slice(4));
    if (!text.startsWith("data: ")) continue;
    const kind = /^data: \{"event":\s*"(\w+)"/.exec(text.slice(0, 80))?.[1] ?? "unknown";
    yield { number, kind, text: text.slice(6), isWhole };
  }
}

/** Yield the lines of a body; of one that is too long its beginning, at once. */
async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let begun = ""; // of the line that is not complete yet
  let isSkipping = false; // the rest of a line that is too long
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const pieces = value.split("\n");
      for (const [n, piece] of pieces.entries()) {
        const isComplete = n < pieces.length - 1;
        if (!isSkipping) {
          begun += piece;
          const isWhole = begun.length <= MOST_CHARS;
          if (isComplete || !isWhole) yield { text: begun.slice(0, MOST_CHARS), isWhole };
          isSkipping = !isWhole;
        }
        if (isComplete) isSkipping = false;
        if (isComplete || isSkipping) begun = "";
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

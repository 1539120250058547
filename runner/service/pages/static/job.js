/**
 * A job while it runs: its messages, numbers, counts and log as they come, and then its end.
 *
 * What arrives is noted at once and shown once a frame.  After `SLICE_MS` of noting, the browser
 * gets its turn, so that a thousand messages a second do not freeze the page.
 */

import { Chart } from "./chart.js";
import { countsIn, table } from "./counts.js";
import { RefusedError, events } from "./events.js";
import { loaded, renew } from "./fresh.js";
import { Log } from "./log.js";
import { Numbers } from "./numbers.js";
import { Rows } from "./rows.js";
import { brief, element } from "./text.js";

const SLICE_MS = 8;
const PICTURES_MS = 250; // between two drawings of the pictures
const MOST_MESSAGES = 100;
const MOST_SHOWN = 500; // characters of a message
const MOST_CHARTS = 4;
const TRY_MS = 500; // between two tries to load how the job has ended
const MOST_TRIES = 100;

/** Show the job in `article`: its log, and what comes until it ends. */
export function show(article) {
  const log = new Log(document.getElementById("log"));
  if (!article.dataset.events) return; // it has ended
  const view = new View(article, log);
  let last = Number(article.dataset.lastSeq);
  let connection = null;
  let frame = null;

  const read = async () => {
    connection = new AbortController();
    const { signal } = connection;
    let turn = 0;
    for await (const event of events(article.dataset.events, last, { signal, tell: view.tell })) {
      if (signal.aborted) return;
      if (event.kind === "finished") return view.end();
      view.add(event);
      last = event.number;
      frame ??= drawn();
      if (performance.now() < turn) continue;
      await frame;
      turn = performance.now() + SLICE_MS;
    }
  };
  const drawn = () =>
    new Promise((resolve) => {
      requestAnimationFrame(() => {
        frame = null;
        view.draw();
        setTimeout(resolve); // what follows is not part of the frame, which is laid out first
      });
    });
  const follow = () => read().catch(view.fail);

  // A page that nobody looks at holds no connection: a browser has six for all pages of a service.
  document.addEventListener("visibilitychange", () => {
    connection?.abort();
    if (!document.hidden && !view.hasEnded) follow();
  });
  if (!document.hidden) follow();
}

class View {
  hasEnded = false;
  #article;
  #log;
  #messages = new Rows(document.getElementById("messages"), MOST_MESSAGES);
  #numbers;
  #charts = new Map();
  #series = document.getElementById("series");
  #counts = null;
  #pictures = null;
  #status = element("p", { id: "live", role: "status" });

  constructor(article, log) {
    this.#article = article;
    this.#log = log;
    this.#numbers = new Numbers(JSON.parse(this.#series.dataset.series ?? "[]"));
    article.before(this.#status);
  }

  /** Say whether the page is connected: the next try comes in `pauseMs`, 0 if it is. */
  tell = (pauseMs) => {
    const lost = `The connection is lost. The next try comes in ${pauseMs / 1000} s.`;
    this.#say(...(pauseMs === 0 ? ["live", "Live"] : ["lost", lost]));
  };

  /** Say why the job cannot be followed any more. */
  fail = (error) => {
    const isSignedOut = error instanceof RefusedError && error.status === 401;
    const why = isSignedOut ? "you are signed out" : error.message;
    this.#say("failed", `This page does not follow the job any more: ${why}. Load it again.`);
    if (!(error instanceof RefusedError)) throw error;
  };

  #say(state, text) {
    if (this.#status.textContent === text) return; // a reader would say it twice
    this.#status.textContent = text;
    this.#status.dataset.state = state;
  }

  /** Note an event. */
  add({ kind, text, isWhole }) {
    if (kind === "message") this.#addMessage(text, isWhole);
    else if (kind === "log" && isWhole) this.#log.add(JSON.parse(text).text);
    else if (kind === "started") this.#start(JSON.parse(text));
  }

  #addMessage(text, isWhole) {
    const head = /^\{"event": "message", "seq": (\d+), "time": ([^,]+), "body": /.exec(text);
    const [seq, time] = [Number(head[1]), Number(head[2])];
    const body = text.slice(head[0].length, isWhole ? -1 : undefined);
    this.#messages.add(() => row(seq, time, body));
    if (!isWhole) return; // too long to be searched
    const value = JSON.parse(body);
    this.#numbers.add(seq, value);
    const counts = countsIn(value);
    if (counts !== null) this.#counts = { seq, counts };
  }

  #start({ attempt = 1 }) {
    if (attempt > 1) {
      // The node was lost; another one runs the job from the beginning.
      this.#messages.clear();
      this.#numbers = new Numbers();
    }
    this.#renew("outcome", () => !this.hasEnded); // or later: at the end it is in any case
  }

  /** Show what has been noted. */
  draw() {
    this.#messages.draw();
    this.#log.draw();
    this.#pictures ??= setTimeout(() => this.#drawPictures(), PICTURES_MS);
  }

  #drawPictures() {
    this.#pictures = null;
    if (this.hasEnded) return; // the service has drawn them
    for (const { name, points, leftOut } of this.#numbers.obvious(MOST_CHARTS)) {
      if (!this.#charts.has(name)) this.#addChart(name);
      this.#charts.get(name).draw(points, leftOut);
    }
    if (this.#counts === null) return;
    const { seq, counts } = this.#counts;
    document.getElementById("counts").replaceChildren(table(`message ${seq}`, counts));
    this.#counts = null;
  }

  #addChart(name) {
    // The first one takes the place of what the service has drawn.
    if (this.#charts.size === 0) this.#series.replaceChildren();
    const chart = new Chart(name);
    this.#charts.set(name, chart);
    this.#series.append(chart.figure);
  }

  /** Show the job as it has ended: the service's own page of it. */
  async end() {
    this.hasEnded = true;
    this.draw();
    const isItsEnd = (page) => !page.getElementById("job")?.dataset.events;
    for (let tries = 1; !(await this.#renew("job", isItsEnd)); tries++) {
      if (tries === MOST_TRIES) throw new Error("its end cannot be loaded");
      await new Promise((resolve) => setTimeout(resolve, TRY_MS));
    }
    this.#say("ended", `Ended: ${document.getElementById("outcome").textContent.trim()}`);
  }

  /** Take an element as the service has it now, if that page `fits`.  Return whether it did. */
  async #renew(id, fits) {
    const page = await loaded(location.href);
    const fresh = page?.getElementById(id);
    if (!fresh || !fits(page)) return false;
    fresh.querySelector("#log")?.replaceWith(this.#log.element); // as it was searched and scrolled
    renew(document.getElementById(id), fresh);
    return true;
  }
}

function row(seq, time, body) {
  const at = new Date(time * 1000);
  return element(
    "li",
    { "data-seq": seq },
    element("span", { class: "seq" }, `#${seq}`),
    element("time", { datetime: at.toISOString() }, at.toISOString().slice(11, 19)),
    element("code", {}, brief(body, MOST_SHOWN)),
  );
}

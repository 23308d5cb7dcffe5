// Many queries, one window after the other: pauses while the server is unreachable and resumes when it is back.
import { clip } from "./audio.js";
import { Away, server } from "./server.js";

const TOGETHER = 6; // windows on their way to the server at a time
const AGAIN = 5; // times a window is asked if the server goes away each time
const RETRY = 2000; // ms between looks for a server that is away

/** What is needed to compute an answer again. */
export const provenance = (config) => ({ ...server.facts, asked: new Date().toISOString().slice(0, 19) + "Z", settings: { ...config } });

/** Puts the last line of an answer into a row. */
export function fill(row, done, facts) {
  delete row.error;
  Object.assign(row, facts, { prediction: done.text, cut: done.finish_reason === "length" || undefined, tokens: done.usage?.completion_tokens });
}

export class Job {
  #controller = new AbortController(); #gate = null; #open = null; #timer;

  /** `entries`: [{recording, row, config}] in order. `onChange()` follows every answer, pause and end. */
  constructor(entries, onChange) {
    this.todo = [...entries]; this.total = entries.length; this.onChange = onChange;
    this.answered = this.failed = 0; this.paused = ""; this.began = null;
  }

  get done() { return this.answered + this.failed; }

  get stopped() { return this.#controller.signal.aborted; }

  /** Seconds that are left at the speed so far; null before there is one. */
  get left() {
    const spent = this.spent + (this.paused || !this.began ? 0 : (performance.now() - this.began) / 1000);
    return this.done ? (spent / this.done) * (this.total - this.done) : null;
  }

  spent = 0;

  async run() {
    this.began = performance.now();
    this.onChange();
    await Promise.all(Array.from({ length: Math.min(TOGETHER, this.total) }, () => this.#work()));
    clearTimeout(this.#timer);
  }

  stop() {
    this.#controller.abort();
    this.#resume();
  }

  #resume() {
    clearTimeout(this.#timer);
    if (this.paused) this.began = performance.now();
    this.paused = "";
    this.#open?.();
    this.#gate = this.#open = null;
    this.onChange();
  }

  #pause(reason) {
    if (this.paused || this.stopped) return;
    this.paused = reason;
    this.spent += (performance.now() - this.began) / 1000;
    this.#gate = new Promise((open) => { this.#open = open; });
    this.#timer = setTimeout(() => this.look(), RETRY);
    this.onChange();
  }

  /** Goes on if the server is there; looks again later if not. */
  async look() {
    clearTimeout(this.#timer);
    const there = await server.check();
    if (!this.paused) return;
    if (there) this.#resume();
    else this.#timer = setTimeout(() => this.look(), RETRY);
  }

  async #work() {
    const { signal } = this.#controller;
    for (;;) {
      await this.#gate;
      const entry = signal.aborted ? null : this.todo.shift();
      if (!entry) return;
      if (entry.recording.removed) { this.total--; continue; }
      const { recording, row, config } = entry, began = provenance(config);
      try {
        const source = await recording.load();
        const done = await server.ask([{ role: "user", content: row.query }], [await clip(source, row.start, row.start + row.length)], config, { signal });
        fill(row, done, began);
        this.answered++;
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Away && (entry.tries = (entry.tries ?? 0) + 1) < AGAIN) {
          this.todo.unshift(entry);
          this.#pause(error.message);
          continue;
        }
        Object.assign(row, began, { error: error.message });
        this.failed++;
      }
      this.onChange();
    }
  }
}

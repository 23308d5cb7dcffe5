// Plays parts of a recording, one at a time, as the model is given them: at 16 kHz.
import { RATE } from "./audio.js";

const PIECE = 20; // seconds read at a time
const AHEAD = 8; // seconds before the end of a piece, at which the next is read

export class Player {
  #context; #nodes = []; #timer; #turn = 0; #onTime = null;

  get playing() { return Boolean(this.#onTime); }

  /** `onTime(seconds or null)` gets the place it plays, and null at the end. */
  async play(source, start, end, onTime) {
    this.stop();
    const turn = ++this.#turn;
    this.#onTime = onTime;
    try {
      this.#context ??= new AudioContext();
      await this.#context.resume();
      for (let at = start, free = 0; at < end && turn === this.#turn;) {
        const stop = Math.min(end, at + PIECE), samples = await source.read(at, stop), now = this.#context.currentTime;
        if (turn !== this.#turn) return;
        const begin = Math.max(now, free), node = this.#node(samples);
        if (begin > free) this.#follow(turn, begin - (at - start), start, end); // the first piece, or one that came late
        if (stop >= end) node.onended = () => turn === this.#turn && this.stop();
        node.start(begin);
        free = begin + (stop - at);
        at = stop;
        while (at < end && turn === this.#turn && free - this.#context.currentTime > AHEAD) await new Promise((go) => { setTimeout(go, 250); });
      }
    } catch (error) {
      if (turn === this.#turn) this.stop();
      throw error;
    }
  }

  #node(samples) {
    const buffer = this.#context.createBuffer(1, samples.length, RATE), node = this.#context.createBufferSource();
    buffer.copyToChannel(samples, 0);
    node.buffer = buffer;
    node.connect(this.#context.destination);
    this.#nodes = [...this.#nodes.slice(-1), node];
    return node;
  }

  #follow(turn, began, start, end) {
    cancelAnimationFrame(this.#timer);
    const tick = () => {
      if (turn !== this.#turn) return;
      this.#onTime(Math.max(start, Math.min(end, start + this.#context.currentTime - began)));
      this.#timer = requestAnimationFrame(tick);
    };
    tick();
  }

  stop() {
    this.#turn++;
    cancelAnimationFrame(this.#timer);
    for (const node of this.#nodes) node.stop();
    this.#nodes = [];
    const over = this.#onTime;
    this.#onTime = null;
    over?.(null);
  }
}

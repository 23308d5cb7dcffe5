// Plays parts of a recording, one at a time, as the model is given them: at 16 kHz.
import { RATE } from "./audio.js";

export class Player {
  #context; #source; #timer; #turn = 0; #onTime;

  get playing() { return Boolean(this.#source || this.#onTime); }

  /** `onTime(seconds or null)` gets the place it plays, and null at the end. */
  async play(source, start, end, onTime) {
    this.stop();
    const turn = ++this.#turn;
    this.#onTime = onTime;
    try {
      const samples = await source.read(start, end);
      this.#context ??= new AudioContext();
      await this.#context.resume();
      if (turn !== this.#turn) return;
      const buffer = this.#context.createBuffer(1, samples.length, RATE), node = this.#context.createBufferSource();
      buffer.copyToChannel(samples, 0);
      node.buffer = buffer;
      node.connect(this.#context.destination);
      node.onended = () => turn === this.#turn && this.stop();
      this.#source = node;
      const began = this.#context.currentTime;
      const tick = () => {
        if (turn !== this.#turn) return;
        onTime(Math.min(end, start + this.#context.currentTime - began));
        this.#timer = requestAnimationFrame(tick);
      };
      node.start();
      tick();
    } catch (error) {
      if (turn === this.#turn) this.stop();
      throw error;
    }
  }

  stop() {
    this.#turn++;
    cancelAnimationFrame(this.#timer);
    this.#source?.stop();
    this.#onTime?.(null);
    this.#source = this.#onTime = null;
  }
}

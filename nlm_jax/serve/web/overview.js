// The whole of a recording at a coarse step, made piece by piece while it is read: loudness and spectrum of each column.
import { BINS, decibels, Spectrum } from "./spectrogram.js";

const PER_SECOND = 20, MOST_COLUMNS = 40_000; // 10 MB of levels
const FLOOR = -105, STEP = 0.6; // dB: levels are bytes

export class Overview {
  constructor(source) {
    this.source = source;
    this.columns = Math.max(1, Math.min(MOST_COLUMNS, Math.ceil(source.seconds * PER_SECOND)));
    this.each = source.seconds / this.columns; // seconds
    this.low = new Float32Array(this.columns);
    this.high = new Float32Array(this.columns);
    this.level = new Uint8Array(this.columns * BINS);
    this.done = 0; // columns
  }

  /** Reads on to the end; `onPiece()` after each piece. Goes on where it stopped before. */
  async scan(signal, onPiece) {
    const { source, columns } = this, spectrum = new Spectrum(source.rate), half = spectrum.size / 2, per = this.each * source.rate;
    const step = Math.max(1, Math.floor(source.piece / per)), power = new Float32Array(BINS);
    while (this.done < columns && !signal.aborted) {
      const last = Math.min(columns, this.done + step), begin = Math.max(0, Math.floor(this.done * per) - half);
      const samples = await source.frames(begin, Math.ceil(last * per) + half);
      if (signal.aborted) return;
      for (let c = this.done; c < last; c++) this.#column(c, samples, begin, per, spectrum, power);
      this.done = last;
      onPiece();
      await new Promise((go) => { setTimeout(go); }); // the page stays alive
    }
  }

  #column(c, samples, begin, per, spectrum, power) {
    let low = 0, high = 0;
    for (let i = Math.floor(c * per) - begin, end = Math.min(samples.length, Math.ceil((c + 1) * per) - begin); i < end; i++) {
      if (samples[i] < low) low = samples[i];
      if (samples[i] > high) high = samples[i];
    }
    this.low[c] = low; this.high[c] = high;
    power.fill(0);
    const looks = Math.max(1, Math.min(4, Math.floor(per / spectrum.size)));
    for (let look = 0; look < looks; look++) spectrum.raise(samples, (c + (look + 0.5) / looks) * per - begin, power);
    for (let k = 0; k < BINS; k++) this.level[c * BINS + k] = Math.max(0, Math.min(255, Math.round((decibels(power[k]) - FLOOR) / STEP)));
  }

  #range(x, width, from, to) { // columns below one of `width` parts between two times
    const each = (to - from) / width, a = Math.min(this.columns - 1, Math.floor((from + x * each) / this.each));
    return [a, Math.min(this.columns, Math.max(a + 1, Math.floor((from + (x + 1) * each) / this.each)))];
  }

  /** [lowest, highest] sample in each of `width` parts between two times. */
  waveform(from, to, width) {
    const low = new Float32Array(width), high = new Float32Array(width);
    for (let x = 0; x < width; x++) {
      const [a, b] = this.#range(x, width, from, to);
      for (let c = a; c < b; c++) { low[x] = Math.min(low[x], this.low[c]); high[x] = Math.max(high[x], this.high[c]); }
    }
    return [low, high];
  }

  /** Levels in dB, [columns, BINS], between two times, for `draw`. */
  levels(from, to, width) {
    const columns = Math.max(1, Math.min(width, 1400)), out = new Float32Array(columns * BINS).fill(FLOOR);
    for (let x = 0; x < columns; x++) {
      const [a, b] = this.#range(x, columns, from, to);
      for (let c = a; c < b; c++) for (let k = 0; k < BINS; k++) out[x * BINS + k] = Math.max(out[x * BINS + k], FLOOR + STEP * this.level[c * BINS + k]);
    }
    return { columns, levels: out };
  }
}

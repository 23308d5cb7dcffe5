// The picture of the recording: waveform, spectrogram, lanes of answers, axis; what is visible of it and what is selected.
import { RATE } from "./audio.js";
import { gestures } from "./gestures.js";
import { lanes } from "./lanes.js";
import { Overview } from "./overview.js";
import { draw, levels, SCALES } from "./spectrogram.js";
import { seconds } from "./times.js";

const LEAST = 0.05; // seconds of the shortest region
const FINE = 60; // seconds up to which the samples themselves are drawn
const EDGE = 0.05; // seconds read beyond both sides, for the spectra there
const OVERVIEWS = 4; // kept at a time

export class View {
  #fine = null; #wanted = ""; #scan = null; #overviews = [];

  /** `onSelect(start, end)` and `onRead(share of the recording that is read)` follow every change; `onPlay()`: the space bar. */
  constructor(root, scroll, { onSelect, onPlay, onRead }) {
    this.root = root; this.scroll = scroll; this.onSelect = onSelect; this.onRead = onRead;
    this.part = Object.fromEntries(["waveform", "spectrogram", "lanes", "axis", "selection", "cursor"].map((id) => [id, root.querySelector(`#${id}`)]));
    this.recording = null; this.scale = "mel"; this.range = 70; this.band = { low: 0, high: 8000 };
    this.from = this.to = this.start = this.end = 0;
    gestures(this, onPlay);
    scroll.addEventListener("input", () => {
      const length = this.to - this.from, at = (scroll.value / 1000) * (this.length - length);
      this.look(at, at + length);
    });
    new ResizeObserver(() => this.paint()).observe(root);
  }

  get length() { return this.recording?.seconds ?? 0; }

  /** Shows another recording, whose source is loaded: all of it, its first `clip` seconds selected. null: nothing. */
  show(recording, clip) {
    this.#scan?.abort();
    this.#scan = new AbortController();
    this.recording = recording; this.#fine = null; this.from = 0; this.to = this.length;
    if (!recording) return;
    this.select(0, Math.min(clip, this.length));
    recording.overview ??= new Overview(recording.source);
    this.#overviews = [recording, ...this.#overviews.filter((other) => other !== recording)];
    for (const old of this.#overviews.splice(OVERVIEWS)) old.overview = null;
    this.#read(recording, this.#scan.signal);
    this.paint();
  }

  async #read(recording, signal) {
    const { overview } = recording, tell = () => { if (!signal.aborted) { this.onRead(overview.done / overview.columns, ""); this.paint(); } };
    tell();
    try {
      await overview.scan(signal, tell);
    } catch (error) {
      if (!signal.aborted) this.onRead(overview.done / overview.columns, error.message);
    }
  }

  select(start, end) {
    const [a, b] = start <= end ? [start, end] : [end, start];
    this.start = Math.max(0, Math.min(a, this.length - Math.min(LEAST, this.length)));
    this.end = Math.min(this.length, Math.max(b, this.start + LEAST));
    this.#place();
    this.onSelect(this.start, this.end);
  }

  /** Moves the region, as long as it is. */
  moveTo(start) {
    const length = this.end - this.start, at = Math.max(0, Math.min(start, this.length - length));
    this.select(at, at + length);
  }

  /** Shows the part between two times. */
  look(from, to) {
    const length = Math.min(this.length, Math.max(0.2, to - from));
    this.from = Math.max(0, Math.min(from, this.length - length));
    this.to = this.from + length;
    this.paint();
  }

  zoom(factor, centre = (this.start + this.end) / 2) {
    const middle = Math.max(this.from, Math.min(this.to, centre)), share = (middle - this.from) / (this.to - this.from || 1);
    const length = (this.to - this.from) / factor;
    this.look(middle - share * length, middle + (1 - share) * length);
  }

  /** Scrolls so that the region is visible. */
  reveal() {
    if (this.start >= this.from && this.end <= this.to) return;
    const shift = this.start < this.from ? this.start - this.from : Math.min(this.start - this.from, this.end - this.to);
    this.look(this.from + shift, this.to + shift);
  }

  cursor(time) {
    this.part.cursor.hidden = time === null;
    if (time !== null) this.part.cursor.style.left = `${this.x(time)}px`;
  }

  x(time) { return ((time - this.from) / (this.to - this.from || 1)) * this.root.clientWidth; }
  time(x) { return this.from + (x / this.root.clientWidth) * (this.to - this.from); }

  paint() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.#paint());
  }

  /** Draws the lanes of answers alone. */
  lanes() { if (this.recording) lanes(this.part.lanes, this, this.recording); }

  #paint() {
    const width = this.root.clientWidth;
    if (!this.recording || !width) return;
    const ratio = Math.min(2, devicePixelRatio || 1);
    for (const name of ["waveform", "spectrogram", "axis"]) {
      const canvas = this.part[name];
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(canvas.clientHeight * ratio);
    }
    const { overview } = this.recording, fine = this.#samples();
    this.#waveform(fine ?? overview);
    const all = fine ? levels(fine.samples, RATE, fine.offset, this.from, this.to, this.part.spectrogram.width)
      : overview.levels(this.from, this.to, this.part.spectrogram.width);
    draw(this.part.spectrogram, all, this.scale, this.range);
    this.#axis(ratio);
    this.#frequencies(ratio);
    this.lanes();
    this.#place();
    const zoomed = this.to - this.from < this.length - 1e-6;
    this.scroll.hidden = !zoomed;
    if (zoomed) this.scroll.value = Math.round((1000 * this.from) / (this.length - (this.to - this.from)));
  }

  /** The samples between the visible times, if they are few and read already; they are read if they are few and not. */
  #samples() {
    const { from, to, recording } = this, fine = this.#fine;
    if (to - from > FINE) return null;
    if (fine?.recording === recording && fine.from <= from && fine.to >= to) return fine;
    const first = Math.max(0, from - (to - from) / 2), last = Math.min(this.length, to + (to - from) / 2), wanted = `${recording.id} ${from} ${to}`;
    if (wanted === this.#wanted) return null;
    this.#wanted = wanted;
    const offset = Math.max(0, first - EDGE);
    recording.source.read(offset, last + EDGE).then((samples) => {
      if (this.#wanted !== wanted) return;
      this.#fine = new Fine(recording, samples, offset, first, last);
      this.paint();
    }).catch(() => {}).finally(() => { if (this.#wanted === wanted) this.#wanted = ""; }); // the overview stays in its place
    return null;
  }

  #waveform(sound) {
    const canvas = this.part.waveform, { width, height } = canvas, context = canvas.getContext("2d");
    const [low, high] = sound.waveform(this.from, this.to, width);
    let peak = 0.02;
    for (let x = 0; x < width; x++) peak = Math.max(peak, high[x], -low[x]);
    context.clearRect(0, 0, width, height);
    context.fillStyle = "#8fd8c4";
    for (let x = 0; x < width; x++) {
      const top = (0.5 - (0.46 * high[x]) / peak) * height, bottom = (0.5 - (0.46 * low[x]) / peak) * height;
      context.fillRect(x, top, 1, Math.max(1, bottom - top));
    }
  }

  #axis(ratio) {
    const context = this.part.axis.getContext("2d"), span = this.to - this.from, wanted = span / Math.max(2, this.root.clientWidth / 90);
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200].find((s) => s >= wanted) ?? 14400;
    context.scale(ratio, ratio);
    context.fillStyle = "#d5d3e0";
    context.font = "11.5px system-ui, sans-serif";
    for (let t = Math.ceil(this.from / step - 1e-6) * step; t <= this.to + 1e-6; t += step) {
      const x = this.x(t), text = seconds(t);
      context.fillRect(x, 0, 1, 5);
      const wide = context.measureText(text).width;
      context.fillText(text, Math.max(3, Math.min(this.root.clientWidth - wide - 3, x - wide / 2)), 17);
    }
  }

  #frequencies(ratio) {
    const context = this.part.spectrogram.getContext("2d"), height = this.part.spectrogram.clientHeight, place = (hz) => height * (1 - SCALES[this.scale].place(hz));
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = "11.5px system-ui, sans-serif";
    context.lineWidth = 3;
    context.strokeStyle = "rgb(0 0 0 / 0.75)";
    for (const hz of this.scale === "mel" ? [500, 1000, 2000, 4000] : [2000, 4000, 6000]) {
      const y = place(hz), text = hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`;
      context.fillStyle = "#fff";
      context.fillRect(0, y, 9, 1);
      context.strokeText(text, 13, y + 4);
      context.fillText(text, 13, y + 4);
    }
    const { low, high } = this.band;
    if (low > 0 || high < 8000) {
      context.strokeStyle = "#6ff0c8";
      context.lineWidth = 1.5;
      context.strokeRect(this.x(this.start), place(high), this.x(this.end) - this.x(this.start), place(low) - place(high));
    }
  }

  #place() {
    const { selection } = this.part, left = this.x(this.start), right = this.x(this.end);
    selection.style.left = `${left}px`;
    selection.style.width = `${right - left}px`;
    this.root.setAttribute("aria-valuemax", this.length.toFixed(1));
    this.root.setAttribute("aria-valuenow", this.start.toFixed(1));
    this.root.setAttribute("aria-valuetext", `from ${this.start.toFixed(1)} to ${this.end.toFixed(1)} of ${this.length.toFixed(1)} seconds`);
  }
}

/** Samples of a short part at 16 kHz. */
class Fine {
  constructor(recording, samples, offset, from, to) { Object.assign(this, { recording, samples, offset, from, to }); }

  waveform(from, to, width) {
    const each = ((to - from) * RATE) / width, first = (from - this.offset) * RATE, low = new Float32Array(width), high = new Float32Array(width);
    for (let x = 0; x < width; x++) {
      const begin = Math.floor(first + x * each), end = Math.max(begin + 1, Math.floor(first + (x + 1) * each));
      for (let i = begin; i < end; i++) {
        const value = this.samples[i] ?? 0;
        if (value < low[x]) low[x] = value;
        if (value > high[x]) high[x] = value;
      }
    }
    return [low, high];
  }
}

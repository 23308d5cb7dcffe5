// The picture of the recording: waveform, spectrogram, lanes of answers, axis; what is seen of it and what is selected.
import { RATE } from "./audio.js";
import { draw, SCALES } from "./spectrogram.js";
import { merged, nothing } from "./labels.js";

const LEAST = 0.05; // seconds of the shortest region
const MARGIN = 9; // pixels beside an edge that still take hold of it

export const seconds = (t) => (t >= 3600 ? `${Math.floor(t / 3600)}:` : "") +
  (t >= 60 ? `${String(Math.floor(t / 60) % 60).padStart(t >= 3600 ? 2 : 1, "0")}:${(t % 60).toFixed(1).padStart(4, "0")}` : `${t.toFixed(1)} s`);

const hues = new Map();

/** A colour for an answer: the same for the same text, as far from the others as can be. */
export function colour(text) {
  if (nothing(text)) return "#8b8a97";
  if (!hues.has(text)) hues.set(text, (165 + hues.size * 137.5) % 360);
  return `hsl(${hues.get(text)} 62% 68%)`;
}

export class View {
  /** `onSelect(start, end)` is told of every change; `onPlay()` is asked for by the space bar. */
  constructor(root, scroll, { onSelect, onPlay }) {
    this.root = root; this.scroll = scroll; this.onSelect = onSelect;
    this.part = Object.fromEntries(["waveform", "spectrogram", "lanes", "axis", "selection", "cursor"].map((id) => [id, root.querySelector(`#${id}`)]));
    this.samples = null; this.scale = "mel"; this.tracks = []; this.from = this.to = this.start = this.end = 0;
    this.#pointer();
    root.addEventListener("keydown", (event) => this.#key(event, onPlay));
    root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    scroll.addEventListener("input", () => {
      const length = this.to - this.from;
      this.look((scroll.value / 1000) * (this.length - length), (scroll.value / 1000) * (this.length - length) + length);
    });
    new ResizeObserver(() => this.paint()).observe(root);
  }

  get length() { return this.samples ? this.samples.length / RATE : 0; }

  /** Shows another recording: all of it, its first ten seconds selected. */
  show(samples) {
    this.samples = samples; this.tracks = []; this.from = 0; this.to = this.length;
    this.select(0, Math.min(10, this.length));
    this.paint();
  }

  select(start, end) {
    const [a, b] = start <= end ? [start, end] : [end, start];
    this.start = Math.max(0, Math.min(a, this.length - Math.min(LEAST, this.length)));
    this.end = Math.min(this.length, Math.max(b, this.start + LEAST));
    this.#place();
    this.onSelect(this.start, this.end);
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

  /** Rows of answers, one lane each: [{query, rows}]. */
  lanes(tracks) {
    this.tracks = tracks;
    this.#lanes();
  }

  cursor(time) {
    this.part.cursor.hidden = time === null;
    if (time !== null) this.part.cursor.style.left = `${this.#x(time)}px`;
  }

  paint() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.#paint());
  }

  #x(time) { return ((time - this.from) / (this.to - this.from || 1)) * this.root.clientWidth; }
  #time(x) { return this.from + (x / this.root.clientWidth) * (this.to - this.from); }

  #paint() {
    const width = this.root.clientWidth;
    if (!this.samples || !width) return;
    const ratio = Math.min(2, devicePixelRatio || 1);
    for (const name of ["waveform", "spectrogram", "axis"]) {
      const canvas = this.part[name];
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(canvas.clientHeight * ratio);
    }
    this.#waveform();
    draw(this.part.spectrogram, this.samples, RATE, this.from, this.to, this.scale);
    this.#axis(ratio);
    this.#frequencies(ratio);
    this.#lanes();
    this.#place();
    const zoomed = this.to - this.from < this.length - 1e-6;
    this.scroll.hidden = !zoomed;
    if (zoomed) this.scroll.value = Math.round((1000 * this.from) / (this.length - (this.to - this.from)));
  }

  #waveform() {
    const canvas = this.part.waveform, { width, height } = canvas, context = canvas.getContext("2d");
    const each = ((this.to - this.from) * RATE) / width, step = Math.max(1, Math.floor(each / 400));
    let peak = 0.02;
    const low = new Float32Array(width), high = new Float32Array(width);
    for (let x = 0; x < width; x++) {
      const begin = Math.floor(this.from * RATE + x * each), stop = Math.max(begin + 1, Math.floor(this.from * RATE + (x + 1) * each));
      for (let i = begin; i < stop; i += step) {
        const value = this.samples[i] ?? 0;
        if (value < low[x]) low[x] = value;
        if (value > high[x]) high[x] = value;
      }
      peak = Math.max(peak, high[x], -low[x]);
    }
    context.clearRect(0, 0, width, height);
    context.fillStyle = "#8fd8c4";
    for (let x = 0; x < width; x++) {
      const top = (0.5 - (0.46 * high[x]) / peak) * height, bottom = (0.5 - (0.46 * low[x]) / peak) * height;
      context.fillRect(x, top, 1, Math.max(1, bottom - top));
    }
  }

  #axis(ratio) {
    const canvas = this.part.axis, context = canvas.getContext("2d"), span = this.to - this.from;
    const wanted = span / Math.max(2, this.root.clientWidth / 90);
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200].find((s) => s >= wanted) ?? 14400;
    context.scale(ratio, ratio);
    context.fillStyle = context.strokeStyle = "#b9b6c9";
    context.font = "11.5px system-ui, sans-serif";
    for (let t = Math.ceil(this.from / step - 1e-6) * step; t <= this.to + 1e-6; t += step) {
      const x = this.#x(t), text = seconds(t);
      context.fillRect(x, 0, 1, 5);
      const wide = context.measureText(text).width;
      context.fillText(text, Math.max(3, Math.min(this.root.clientWidth - wide - 3, x - wide / 2)), 17);
    }
  }

  #frequencies(ratio) {
    const context = this.part.spectrogram.getContext("2d"), height = this.part.spectrogram.clientHeight;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = "11.5px system-ui, sans-serif";
    for (const hz of this.scale === "mel" ? [500, 1000, 2000, 4000] : [2000, 4000, 6000]) {
      const y = height * (1 - SCALES[this.scale].place(hz, RATE / 2));
      context.fillStyle = "rgb(255 255 255 / 0.55)";
      context.fillRect(0, y, 5, 1);
      context.fillStyle = "rgb(255 255 255 / 0.8)";
      context.fillText(hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`, 8, y + 4);
    }
  }

  #lanes() {
    const { lanes } = this.part;
    lanes.replaceChildren(...this.tracks.slice(-4).map(({ rows, query }) => {
      const lane = document.createElement("div");
      lane.className = "lane";
      lane.title = query;
      for (const label of merged(rows)) {
        if (label.end <= this.from || label.start >= this.to) continue;
        const block = document.createElement("span"), left = Math.max(0, this.#x(label.start));
        block.style.left = `${left}px`;
        block.style.width = `${Math.max(2, Math.min(this.root.clientWidth, this.#x(Math.min(label.end, this.length))) - left)}px`;
        block.style.background = colour(label.text);
        block.className = nothing(label.text) ? "none" : "";
        block.textContent = label.text || "–";
        block.title = `${seconds(label.start)} – ${seconds(label.end)}: ${label.text}`;
        lane.append(block);
      }
      return lane;
    }));
  }

  #place() {
    const { selection } = this.part, left = this.#x(this.start), right = this.#x(this.end);
    selection.style.left = `${left}px`;
    selection.style.width = `${right - left}px`;
    this.root.setAttribute("aria-valuemax", this.length.toFixed(1));
    this.root.setAttribute("aria-valuenow", this.start.toFixed(1));
    this.root.setAttribute("aria-valuetext", `from ${this.start.toFixed(1)} to ${this.end.toFixed(1)} of ${this.length.toFixed(1)} seconds`);
  }

  #pointer() {
    let hold = null;
    this.root.addEventListener("pointerdown", (event) => {
      if (!this.samples || event.button) return;
      const x = event.clientX - this.root.getBoundingClientRect().left, reach = event.pointerType === "touch" ? 2 * MARGIN : MARGIN;
      const near = (time) => Math.abs(this.#x(time) - x) < reach;
      const fixed = near(this.end) ? this.start : near(this.start) ? this.end : this.#time(x);
      hold = { id: event.pointerId, fixed, x, moved: near(this.end) || near(this.start) };
      this.root.setPointerCapture(event.pointerId);
      this.root.focus({ preventScroll: true });
    });
    this.root.addEventListener("pointermove", (event) => {
      if (hold?.id !== event.pointerId) return;
      const x = Math.max(0, Math.min(this.root.clientWidth, event.clientX - this.root.getBoundingClientRect().left));
      hold.moved ||= Math.abs(x - hold.x) > 4;
      if (hold.moved) this.select(hold.fixed, this.#time(x));
    });
    this.root.addEventListener("pointerup", () => {
      if (hold && !hold.moved) this.#moveTo(hold.fixed); // a click moves the region there
      hold = null;
    });
    this.root.addEventListener("pointercancel", () => { hold = null; });
  }

  #moveTo(start) {
    const length = this.end - this.start, at = Math.max(0, Math.min(start, this.length - length));
    this.select(at, at + length);
  }

  #key(event, onPlay) {
    if (event.ctrlKey || event.altKey || event.metaKey || !this.samples) return;
    const length = this.end - this.start, step = Math.max(0.01, Math.round((this.to - this.from) * 2) / 200);
    const along = (by) => (event.shiftKey ? this.select(this.start, Math.max(this.start + LEAST, this.end + by)) : this.#moveTo(this.start + by));
    const keys = {
      ArrowLeft: () => along(-step), ArrowRight: () => along(step), ArrowDown: () => along(-step), ArrowUp: () => along(step),
      PageUp: () => this.#moveTo(this.start - length), PageDown: () => this.#moveTo(this.start + length),
      Home: () => (event.shiftKey ? this.select(0, this.end) : this.#moveTo(0)),
      End: () => (event.shiftKey ? this.select(this.start, this.length) : this.#moveTo(this.length)),
      " ": onPlay, "+": () => this.zoom(2), "=": () => this.zoom(2), "-": () => this.zoom(0.5),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
    if (this.start < this.from || this.end > this.to) { // keep it in sight
      const shift = this.start < this.from ? this.start - this.from : Math.min(this.start - this.from, this.end - this.to);
      this.look(this.from + shift, this.to + shift);
    }
  }

  #wheel(event) {
    if (!this.samples || !(event.ctrlKey || event.shiftKey)) return; // a plain wheel scrolls the page
    event.preventDefault();
    if (event.ctrlKey) {
      this.zoom(event.deltaY < 0 ? 1.25 : 0.8, this.#time(event.clientX - this.root.getBoundingClientRect().left));
    } else {
      const by = ((event.deltaY || event.deltaX) / 600) * (this.to - this.from);
      this.look(this.from + by, this.to + by);
    }
  }
}

// Sources of sound: WAV files are read piece by piece, everything else is decoded whole by the browser, up to a limit.
import { base64, layout, mono, wavFile } from "./wav.js";

export const RATE = 16000; // Hz, of what is sent
const MIB = 2 ** 20;
const MOST_BYTES = 256 * MIB; // of a file that is decoded whole
const MOST_SECONDS = 3600; // of such a file: 1.4 GB while 48 kHz stereo is decoded
const HELD_SECONDS = 5400; // of decoded files in memory, all together
const MARGIN = 0.1; // seconds of context on both sides of what is resampled

const length = (seconds) => Math.max(1, Math.round(seconds * RATE));

/** A recording in a WAV file: only the part that is asked for is in memory. */
class Wav {
  constructor(file, where) {
    this.file = file; this.where = where; this.rate = where.rate; this.seconds = where.frames / where.rate;
    this.piece = Math.max(4096, Math.floor((8 * MIB) / where.align)); // frames read at a time
  }

  async load() {}

  /** Mono samples [from, to) at the file's own rate. */
  frames(from, to) { return mono(this.file, this.where, from, to); }

  /** Mono samples between two times at 16 kHz, zero-padded behind the end. */
  async read(start, end) {
    const first = Math.max(0, Math.floor(start - MARGIN)); // a whole second lies on a sample at every rate
    const native = await this.frames(first * this.rate, Math.ceil((end + MARGIN) * this.rate));
    const samples = await resampled(native, this.rate), from = Math.round((start - first) * RATE), out = new Float32Array(length(end - start));
    out.set(samples.subarray(from, from + out.length));
    return checked(out, this.file.name, start, end);
  }
}

async function resampled(samples, rate) {
  if (rate === RATE || !samples.length) return samples;
  const buffer = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(wavFile(samples, rate, true));
  return buffer.getChannelData(0);
}

const held = new Set(); // decoded files, the one used longest ago first

/** A recording that the browser decodes as a whole, when it is first needed. */
class Whole {
  #samples = null; #loading = null;

  constructor(file, seconds) { this.file = file; this.rate = RATE; this.seconds = seconds; this.piece = 2 ** 20; }

  async load() {
    if (!this.#samples) await (this.#loading ??= this.#decode().finally(() => { this.#loading = null; }));
    held.delete(this);
    held.add(this);
    for (const other of held) {
      if (other === this || [...held].reduce((sum, one) => sum + one.seconds, 0) <= HELD_SECONDS) break;
      other.release();
    }
  }

  release() { this.#samples = null; held.delete(this); }

  async #decode() {
    let buffer;
    try {
      buffer = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await this.file.arrayBuffer());
    } catch {
      throw unreadable(this.file);
    }
    const samples = new Float32Array(buffer.length);
    for (let c = 0; c < buffer.numberOfChannels; c++) {
      const channel = buffer.getChannelData(c);
      for (let i = 0; i < samples.length; i++) samples[i] += channel[i] / buffer.numberOfChannels;
    }
    if (!samples.length) throw new Error(`${this.file.name} holds no sound.`);
    this.#samples = samples;
    this.seconds = samples.length / RATE;
  }

  async frames(from, to) {
    await this.load();
    return this.#samples.slice(Math.max(0, from), Math.max(0, to));
  }

  async read(start, end) {
    const out = new Float32Array(length(end - start)), from = Math.round(start * RATE);
    out.set(await this.frames(from, from + out.length));
    return checked(out, this.file.name, start, end);
  }
}

function checked(samples, name, start, end) {
  if (samples.every(Number.isFinite)) return samples;
  throw new Error(`${name}: samples between ${start.toFixed(1)} and ${end.toFixed(1)} s are not finite numbers; export the recording again.`);
}

const unreadable = (file) => new Error(`${file.name} is not audio that this browser can read. Try wav, flac, mp3 or ogg.`);

/** Seconds of a file as its header gives them; NaN where it does not. */
function announced(file) {
  return new Promise((done) => {
    const element = new Audio(), url = URL.createObjectURL(file);
    const end = () => { clearTimeout(timer); URL.revokeObjectURL(url); element.removeAttribute("src"); done(element.duration); };
    const timer = setTimeout(end, 4000);
    element.onloadedmetadata = element.onerror = () => { const { duration } = element; end(); done(duration); };
    element.preload = "metadata";
    element.src = url;
  });
}

/** The source of a file's sound. Nothing but its header is read. Throws an Error in plain words. */
export async function source(file) {
  if (!file.size) throw new Error(`${file.name} is empty.`);
  const where = await layout(file);
  if (where) {
    if (!where.frames) throw new Error(`${file.name} holds no sound.`);
    if (where.rate < 3000 || where.rate > 768_000) throw new Error(`${file.name}: no browser resamples ${where.rate} Hz; nlm infer does, or write the file at another rate.`);
    return new Wav(file, where);
  }
  const large = (what, most) => new Error(`${file.name} is too large for this browser: ${what}, and a file that is not plain WAV is decoded whole, up to ${most}. ` +
    "Convert it to WAV, or ask with nlm infer.");
  if (file.size > MOST_BYTES) throw large(`${Math.round(file.size / MIB)} MiB`, `${MOST_BYTES / MIB} MiB`);
  const seconds = await announced(file);
  if (seconds > MOST_SECONDS && Number.isFinite(seconds)) throw large(`${Math.round(seconds / 60)} minutes`, `${MOST_SECONDS / 60} minutes`);
  return new Whole(file, Number.isFinite(seconds) ? seconds : 0);
}

/** What is sent of a recording: base64 of a 16-bit WAV file. */
export const clip = async (source, start, end) => base64(wavFile(await source.read(start, end), RATE));

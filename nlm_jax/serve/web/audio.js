// Sources of sound: WAV files are read piece by piece, everything else is decoded whole by the browser, up to a limit.
import { coded } from "./rates.js";
import { filterOf, reach, resample } from "./resample.js";
import { server } from "./server.js";
import { base64, layout, mono, wavFile } from "./wav.js";

export const RATE = 16000; // Hz, of what is sent
const MIB = 2 ** 20;
const MOST_BYTES = 256 * MIB; // of a file that is decoded whole
const MOST_DECODED = 3600 * 48_000 * 2 * 4; // bytes of such a file while it is decoded: an hour of 48 kHz stereo, 1.4 GB
const RATES = [100, 1_000_000]; // Hz of recordings, as `nlm_jax/audio/stream.py` has them
const LOUDEST = 8; // times full scale: floats beyond are at another scale, as `nlm_jax/audio/scale.py` has it
const MOST_CACHED = 512 * MIB; // bytes of decoded files in memory, all together

/** What all sources share: `seconds`, `rate`, `frames(from, to)` in mono at that rate, `piece`: frames to read at a time. */
class Source {
  constructor(file, rate, seconds, piece) { Object.assign(this, { file, rate, seconds, piece }); }

  /** Mono samples between two times at 16 kHz, zero-padded behind the end. */
  async read(start, end) {
    const count = Math.max(1, Math.round((end - start) * RATE)), first = Math.round(start * RATE) * (this.rate / RATE);
    const filter = filterOf(server.info?.audio_resampling), margin = this.rate === RATE ? 0 : reach(this.rate, RATE, filter), begin = Math.max(0, Math.floor(first) - margin);
    const native = await this.frames(begin, Math.ceil(first + (count * this.rate) / RATE) + margin);
    let out = new Float32Array(count);
    if (this.rate === RATE) out.set(native.subarray(0, count));
    else out = resample(native, this.rate, RATE, first - begin, count, filter);
    return checked(out, this.file.name, start, end);
  }
}

/** A recording in a WAV file: only the part that is asked for is in memory. */
class Wav extends Source {
  constructor(file, where) {
    super(file, where.rate, where.frames / where.rate, Math.max(4096, Math.floor((8 * MIB) / where.align)));
    this.where = where;
  }

  async load() {}

  async frames(from, to) {
    try {
      return await mono(this.file, this.where, from, to);
    } catch {
      throw new Error(`${this.file.name} cannot be read any more: it was moved, changed or is on a medium that was taken out. Choose it again.`);
    }
  }
}

const decodedFiles = new Set(); // decoded files, the one used longest ago first

/** A recording that the browser decodes as a whole, when it is first needed; in memory as 16-bit mono. */
class Whole extends Source {
  #samples = null; #loading = null;

  constructor(file, seconds, rate) { super(file, rate, seconds, 2 ** 20); }

  async load() {
    if (!this.#samples) await (this.#loading ??= this.#decode().finally(() => { this.#loading = null; }));
    decodedFiles.delete(this);
    decodedFiles.add(this);
    for (const other of decodedFiles) {
      if (other === this || [...decodedFiles].reduce((sum, one) => sum + one.bytes, 0) <= MOST_CACHED) break;
      other.release();
    }
  }

  get bytes() { return this.#samples?.byteLength ?? 0; }

  release() { this.#samples = null; decodedFiles.delete(this); }

  async #decode() {
    let buffer;
    try {
      buffer = await new OfflineAudioContext(1, 1, this.rate).decodeAudioData(await this.file.arrayBuffer());
    } catch {
      throw unreadable(this.file);
    }
    if (!buffer.length) throw new Error(`${this.file.name} holds no sound.`);
    const channels = Array.from({ length: buffer.numberOfChannels }, (_, c) => buffer.getChannelData(c)), samples = new Int16Array(buffer.length);
    for (let i = 0; i < samples.length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      samples[i] = Math.max(-32768, Math.min(32767, Math.round((32768 * sum) / channels.length)));
    }
    this.#samples = samples;
    this.seconds = samples.length / this.rate;
  }

  async frames(from, to) {
    await this.load();
    return Float32Array.from(this.#samples.subarray(Math.max(0, from), Math.max(0, to)), (value) => value / 32768);
  }
}

function checked(samples, name, start, end) {
  const peak = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  if (peak <= LOUDEST) return samples;
  if (Number.isFinite(peak)) throw new Error(`${name}: samples between ${start.toFixed(1)} and ${end.toFixed(1)} s reach ${peak.toPrecision(3)}, where full scale is 1; divide them by their full scale.`);
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
  if (!new Uint8Array(await file.slice(0, 4096).arrayBuffer()).some(Boolean)) {
    throw new Error(`${file.name} begins with zeros where the header of a recording should be: it was not written or copied to its end. Copy it again.`);
  }
  const where = await layout(file);
  if (where) {
    if (!where.frames) throw new Error(`${file.name} holds no sound.`);
    if (where.rate < RATES[0] || where.rate > RATES[1]) throw new Error(`${file.name}: its header says ${where.rate} Hz, which cannot be right for a recording of sound; mend the header.`);
    return new Wav(file, where);
  }
  const large = (what, most) => new Error(`${file.name} is too large for this browser: ${what}, and a file that is not plain WAV is decoded whole, up to ${most}. ` +
    "Convert it to WAV, or ask with nlm infer.");
  if (file.size > MOST_BYTES) throw large(`${Math.round(file.size / MIB)} MiB`, `${MOST_BYTES / MIB} MiB`);
  const seconds = await announced(file), { rate, channels } = await coded(file), most = MOST_DECODED / (4 * rate * channels);
  if (Number.isFinite(seconds) && seconds > most) throw large(`${Math.round(seconds / 60)} minutes of ${rate} Hz with ${channels} channels`, `${Math.floor(most / 60)} minutes of these`);
  return new Whole(file, Number.isFinite(seconds) ? seconds : 0, rate >= 8000 && rate <= 384_000 ? rate : 48_000);
}

/** What is sent of a recording: base64 of a 16-bit WAV file. */
export const clip = async (source, start, end) => base64(wavFile(await source.read(start, end), RATE));

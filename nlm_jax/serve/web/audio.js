// A recording in memory: decoding to 16 kHz mono, parts of it as WAV, playing.
export const RATE = 16000;

/** Float32Array of mono samples at 16 kHz. Throws an Error in plain words. */
export async function decode(file) {
  if (!file.size) throw new Error(`${file.name} is empty.`);
  const bytes = await file.arrayBuffer();
  let buffer;
  try {
    // decodeAudioData resamples to the rate of its context.
    buffer = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes);
  } catch {
    throw new Error(`${file.name} is not audio that this browser can read. Try wav, flac, mp3 or ogg.`);
  }
  const mono = new Float32Array(buffer.length);
  for (let c = 0; c < buffer.numberOfChannels; c++) {
    const channel = buffer.getChannelData(c);
    for (let i = 0; i < mono.length; i++) mono[i] += channel[i] / buffer.numberOfChannels;
  }
  if (!mono.length) throw new Error(`${file.name} holds no sound.`);
  return mono;
}

/** Samples between two times, zero-padded behind the end of the recording. */
export function part(samples, start, end) {
  const from = Math.round(start * RATE), out = new Float32Array(Math.max(1, Math.round((end - start) * RATE)));
  out.set(samples.subarray(from, Math.min(samples.length, from + out.length)));
  return out;
}

/** A 16-bit WAV file, in base64. */
export function wavBase64(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, word) => [...word].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true); view.setUint32(28, 2 * RATE, true); view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * samples.length, true);
  for (let i = 0; i < samples.length; i++) {
    view.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, Math.round(samples[i] * 32768))), true);
  }
  const bytes = new Uint8Array(view.buffer), pieces = [];
  for (let at = 0; at < bytes.length; at += 32766) pieces.push(btoa(String.fromCharCode(...bytes.subarray(at, at + 32766))));
  return pieces.join(""); // pieces of 3 n bytes, so that only the last one is padded
}

/** Plays parts of the recording, one at a time. */
export class Player {
  #context; #source; #timer;

  get playing() { return Boolean(this.#source); }

  /** `onTime(seconds or null)` is told where it is, and null at the end. */
  async play(samples, start, end, onTime) {
    this.stop();
    this.#context ??= new AudioContext();
    await this.#context.resume();
    const buffer = this.#context.createBuffer(1, Math.max(1, Math.round((end - start) * RATE)), RATE);
    buffer.copyToChannel(part(samples, start, end), 0);
    const source = this.#context.createBufferSource(), began = this.#context.currentTime;
    source.buffer = buffer;
    source.connect(this.#context.destination);
    source.onended = () => source === this.#source && this.stop();
    this.#source = source;
    const tick = () => {
      if (source !== this.#source) return;
      onTime(Math.min(end, start + this.#context.currentTime - began));
      this.#timer = requestAnimationFrame(tick);
    };
    this.onend = () => onTime(null);
    source.start();
    tick();
  }

  stop() {
    if (!this.#source) return;
    const source = this.#source;
    this.#source = null;
    cancelAnimationFrame(this.#timer);
    source.stop();
    this.onend?.();
  }
}

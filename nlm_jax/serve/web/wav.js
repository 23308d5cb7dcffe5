// WAV files of any size: the header comes from slices of the file, and samples are read only where they are needed.
const PCM = 1, FLOAT = 3, EXTENSIBLE = 0xfffe, WRAP = 2 ** 32;

const bytes = async (blob, at, count) => new DataView(await blob.slice(at, at + count).arrayBuffer());
const word = (view, at) => String.fromCharCode(...new Uint8Array(view.buffer, at, 4));
const isChunk = (name) => /^[\x20-\x7e]{4}$/.test(name);

/**
 * Where the samples of a WAV file are: {begin (byte), frames, channels, rate (Hz), align (bytes of a frame), code, width (bytes)}.
 * null: no WAV, or one whose coding is not plain (ADPCM, A-law ...), which is left to the browser.
 */
export async function layout(blob) {
  if (blob.size < 12) return null;
  const head = await bytes(blob, 0, 12);
  if (!["RIFF", "RF64", "BW64"].includes(word(head, 0)) || word(head, 8) !== "WAVE") return null;
  let format = null, long = 0;
  for (let at = 12; at + 8 <= blob.size;) {
    const chunk = await bytes(blob, at, 8), name = word(chunk, 0), size = chunk.getUint32(4, true);
    if (name === "ds64") long = Number((await bytes(blob, at + 8, 16)).getBigUint64(8, true));
    if (name === "fmt ") format = parsed(await bytes(blob, at + 8, Math.min(size, 40)));
    if (name === "data") {
      if (!format) return null;
      const begin = at + 8, length = await lengthOf(blob, begin, size, long);
      return { ...format, begin, frames: Math.floor(length / format.align) };
    }
    at += 8 + size + (size & 1);
  }
  return null;
}

function parsed(view) {
  if (view.byteLength < 16) return null;
  let code = view.getUint16(0, true);
  const channels = view.getUint16(2, true), rate = view.getUint32(4, true), bits = view.getUint16(14, true);
  if (code === EXTENSIBLE && view.byteLength >= 26) code = view.getUint16(24, true);
  const align = view.getUint16(12, true) || channels * Math.ceil(bits / 8), width = align / channels;
  const plain = (code === PCM && [1, 2, 3, 4].includes(width)) || (code === FLOAT && [4, 8].includes(width));
  return plain && rate ? { code, channels, rate, align, width } : null;
}

/** Bytes of samples. Sizes that streams and interrupted recorders leave (0, all ones, past the end, modulo 4 GiB) are mended. */
async function lengthOf(blob, begin, size, long) {
  const rest = blob.size - begin;
  if (long && size === WRAP - 1) return Math.min(long, rest);
  if (!size && rest) {
    const next = rest >= 8 ? await bytes(blob, begin, 8) : null;
    const empty = next && isChunk(word(next, 0)) && begin + 8 + next.getUint32(4, true) <= blob.size;
    return empty ? 0 : rest;
  }
  return size > rest ? rest : size + WRAP * Math.floor((rest - size) / WRAP);
}

/** Frames [from, to) of a WAV file as the mean of their channels, full scale 1. */
export async function mono(blob, { begin, frames, channels, align, code, width }, from, to) {
  const first = Math.max(0, Math.min(from, frames)), last = Math.max(first, Math.min(to, frames));
  const buffer = await blob.slice(begin + first * align, begin + last * align).arrayBuffer();
  const count = Math.floor(buffer.byteLength / align), out = new Float32Array(count);
  const [values, scale, zero] = numbers(buffer.slice(0, count * align), code, width);
  if (channels === 1) {
    for (let i = 0; i < count; i++) out[i] = (values[i] - zero) * scale;
    return out;
  }
  for (let i = 0, at = 0; i < count; i++) {
    let sum = 0;
    for (let c = 0; c < channels; c++) sum += values[at++];
    out[i] = (sum / channels - zero) * scale;
  }
  return out;
}

function numbers(buffer, code, width) {
  if (code === FLOAT) return [width === 8 ? new Float64Array(buffer) : new Float32Array(buffer), 1, 0];
  if (width === 1) return [new Uint8Array(buffer), 1 / 128, 128];
  if (width === 2) return [new Int16Array(buffer), 1 / 32768, 0];
  if (width === 4) return [new Int32Array(buffer), 2 ** -31, 0];
  const packed = new Uint8Array(buffer), wide = new Int32Array(packed.length / 3);
  for (let i = 0, at = 0; i < wide.length; i++, at += 3) wide[i] = (packed[at] << 8) | (packed[at + 1] << 16) | (packed[at + 2] << 24);
  return [wide, 2 ** -31, 0];
}

/** A WAV file in memory: 16 bits a sample, or 32-bit floating point. */
export function wavFile(samples, rate, float = false) {
  const width = float ? 4 : 2, size = width * samples.length, view = new DataView(new ArrayBuffer(44 + size));
  const text = (at, letters) => [...letters].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + size, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, float ? FLOAT : PCM, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, width * rate, true); view.setUint16(32, width, true); view.setUint16(34, 8 * width, true);
  text(36, "data"); view.setUint32(40, size, true);
  if (float) new Float32Array(view.buffer, 44).set(samples);
  else for (let i = 0; i < samples.length; i++) view.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, Math.round(samples[i] * 32768))), true);
  return view.buffer;
}

export function base64(buffer) {
  const all = new Uint8Array(buffer), pieces = [];
  for (let at = 0; at < all.length; at += 32766) pieces.push(btoa(String.fromCharCode(...all.subarray(at, at + 32766))));
  return pieces.join(""); // pieces of 3 n bytes, so that only the last one is padded
}

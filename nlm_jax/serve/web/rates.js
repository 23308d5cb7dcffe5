// Sample rate and channels of a compressed file, from its first bytes: the browser decodes at the requested rate, and
// resamples badly.
const LEVELS = [[11025, 12000, 8000], null, [22050, 24000, 16000], [44100, 48000, 32000]]; // MPEG 2.5, -, 2, 1
const USUAL = { rate: 48_000, channels: 2 };

const text = (view, at, word) => at + word.length <= view.byteLength && [...word].every((letter, i) => view.getUint8(at + i) === letter.charCodeAt(0));

/** {rate (Hz), channels}; those of most files if this one does not say. */
export async function coded(file) {
  const view = new DataView(await file.slice(0, 64).arrayBuffer());
  const known = (rate, channels) => ({ rate: rate || USUAL.rate, channels: channels || USUAL.channels });
  if (text(view, 0, "fLaC") && view.byteLength >= 22) return known(view.getUint32(18) >>> 12, ((view.getUint8(20) >>> 1) & 7) + 1);
  if (text(view, 0, "OggS")) {
    if (text(view, 29, "vorbis") && view.byteLength >= 44) return known(view.getUint32(40, true), view.getUint8(39));
    return known(0, text(view, 28, "OpusHead") ? view.getUint8(37) : 0); // Opus is always decoded to 48 kHz
  }
  let at = 0;
  if (text(view, 0, "ID3")) at = 10 + [6, 7, 8, 9].reduce((sum, i) => (sum << 7) | (view.getUint8(i) & 127), 0);
  const frame = new DataView(await file.slice(at, at + 4096).arrayBuffer());
  for (let i = 0; i + 3 < frame.byteLength; i++) {
    const head = frame.getUint32(i), level = LEVELS[(head >>> 19) & 3], rate = level?.[(head >>> 10) & 3];
    if (head >>> 21 === 0x7ff && ((head >>> 17) & 3) === 1 && rate) return { ...USUAL, rate };
  }
  return USUAL;
}

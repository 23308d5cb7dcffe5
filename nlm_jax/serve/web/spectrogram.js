// Spectra: a radix-2 FFT, the mel scale, colours from night to cream, and the picture made of them.
export const BINS = 256, STEP_HZ = 31.25; // frequencies of a picture: 0 to 8 kHz, as the model gets them
export const TOP_HZ = BINS * STEP_HZ;

/** Power spectra of pieces of sound at one rate. */
export class Spectrum {
  constructor(rate) {
    this.rate = rate;
    this.size = 2 ** Math.max(5, Math.ceil(Math.log2(rate / STEP_HZ)));
    const { size } = this, angle = (i) => (2 * Math.PI * i) / size, bits = Math.log2(size);
    this.window = Float32Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos(angle(i)));
    this.cos = Float32Array.from({ length: size / 2 }, (_, i) => Math.cos(angle(i)));
    this.sin = Float32Array.from({ length: size / 2 }, (_, i) => Math.sin(angle(i)));
    this.reversed = Uint16Array.from({ length: size }, (_, i) => {
      let r = 0;
      for (let b = 0; b < bits; b++) r = (r << 1) | ((i >> b) & 1);
      return r;
    });
    this.re = new Float32Array(size);
    this.im = new Float32Array(size);
  }

  #transform() { // in place, from bit-reversed order
    const { size, re, im, cos, sin } = this;
    for (let span = 2; span <= size; span *= 2) {
      const half = span / 2, step = size / span;
      for (let block = 0; block < size; block += span) {
        for (let k = 0; k < half; k++) {
          const a = block + k, b = a + half, c = cos[k * step], s = -sin[k * step];
          const x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
          re[b] = re[a] - x; im[b] = im[a] - y; re[a] += x; im[a] += y;
        }
      }
    }
  }

  /** Raises `out` (BINS powers, those of a window of 512 samples at 16 kHz) to the spectrum around sample `centre`. */
  raise(samples, centre, out) {
    const { size, re, im, window, reversed, rate } = this, begin = Math.round(centre) - size / 2, scale = (512 / size) ** 2;
    for (let i = 0; i < size; i++) re[reversed[i]] = (samples[begin + i] ?? 0) * window[i];
    im.fill(0);
    this.#transform();
    const power = (k) => re[k] * re[k] + im[k] * im[k];
    for (let k = 0; k < BINS; k++) {
      const at = (k * STEP_HZ * size) / rate, low = Math.floor(at), share = at - low;
      if (low + 1 > size / 2) break; // the recording ends below
      const value = scale * (power(low) * (1 - share) + (share ? power(low + 1) * share : 0));
      if (value > out[k]) out[k] = value;
    }
  }
}

const mel = (hz) => 2595 * Math.log10(1 + hz / 700), hertz = (m) => 700 * (10 ** (m / 2595) - 1);

/** Height from the bottom, 0 to 1, of a frequency; and the other way round. */
export const SCALES = {
  mel: { place: (hz) => mel(hz) / mel(TOP_HZ), hz: (at) => hertz(at * mel(TOP_HZ)) },
  linear: { place: (hz) => hz / TOP_HZ, hz: (at) => at * TOP_HZ },
};

const STOPS = [[4, 3, 14], [26, 16, 66], [77, 18, 122], [128, 37, 130], [181, 54, 122], [229, 80, 100], [250, 134, 98], [254, 194, 140], [252, 252, 198]];
const COLOURS = Uint8ClampedArray.from({ length: 1024 }, (_, i) => {
  if (i % 4 === 3) return 255;
  const at = ((i >> 2) / 255) * (STOPS.length - 1), low = Math.min(STOPS.length - 2, Math.floor(at));
  return STOPS[low][i % 4] + (at - low) * (STOPS[low + 1][i % 4] - STOPS[low][i % 4]);
});

const COLUMNS = 1400; // of a picture, at most

export const decibels = (power) => 10 * Math.log10(power + 1e-10);

/** Levels in dB, [columns, BINS], of sound between two times; `samples` begin `offset` seconds into the recording. */
export function levels(samples, rate, offset, from, to, width) {
  const columns = Math.max(1, Math.min(width, COLUMNS)), each = ((to - from) * rate) / columns, spectrum = new Spectrum(rate);
  const looks = Math.max(1, Math.min(4, Math.ceil((2 * each) / spectrum.size))); // a column longer than a window has more than one
  const out = new Float32Array(columns * BINS);
  for (let x = 0; x < columns; x++) {
    const column = out.subarray(x * BINS, (x + 1) * BINS);
    for (let look = 0; look < looks; look++) spectrum.raise(samples, (from - offset) * rate + each * (x + (look + 0.5) / looks), column);
    for (let k = 0; k < BINS; k++) column[k] = decibels(column[k]);
  }
  return { columns, levels: out };
}

/** Draws levels on a canvas; `range` is the dB between the loudest of what is visible and black. */
export function draw(canvas, { columns, levels: all }, scale, range) {
  const { width, height } = canvas;
  let most = -40; // silence stays dark
  for (let i = 0; i < all.length; i++) if (i % BINS > 1 && all[i] > most) most = all[i];
  const image = new ImageData(columns, height), data = new Uint32Array(image.data.buffer), colours = new Uint32Array(COLOURS.buffer);
  for (let y = 0; y < height; y++) {
    const bin = SCALES[scale].hz(1 - (y + 0.5) / height) / STEP_HZ;
    const low = Math.max(0, Math.min(BINS - 2, Math.floor(bin))), share = Math.min(1, Math.max(0, bin - low));
    for (let x = 0; x < columns; x++) {
      const value = all[x * BINS + low] * (1 - share) + all[x * BINS + low + 1] * share;
      data[y * columns + x] = colours[Math.max(0, Math.min(255, Math.round(255 * (1 + (value - most) / range))))];
    }
  }
  const small = new OffscreenCanvas(columns, height);
  small.getContext("2d").putImageData(image, 0, 0);
  canvas.getContext("2d").drawImage(small, 0, 0, width, height);
}

// Spectrograms: a radix-2 FFT, the mel scale, and colours from night to cream.
const SIZE = 512, BINS = SIZE / 2;
const WINDOW = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
const COS = Float32Array.from({ length: BINS }, (_, i) => Math.cos((2 * Math.PI * i) / SIZE));
const SIN = Float32Array.from({ length: BINS }, (_, i) => Math.sin((2 * Math.PI * i) / SIZE));
const REVERSED = Uint16Array.from({ length: SIZE }, (_, i) => {
  let r = 0;
  for (let bit = 1; bit < SIZE; bit <<= 1) r = (r << 1) | (i & bit ? 1 : 0);
  return r;
});

/** In-place FFT of SIZE complex numbers, given in bit-reversed order. */
export function fft(re, im) {
  for (let size = 2; size <= SIZE; size *= 2) {
    const half = size / 2, step = SIZE / size;
    for (let block = 0; block < SIZE; block += size) {
      for (let k = 0; k < half; k++) {
        const a = block + k, b = a + half, c = COS[k * step], s = -SIN[k * step];
        const x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
        re[b] = re[a] - x; im[b] = im[a] - y; re[a] += x; im[a] += y;
      }
    }
  }
}

const re = new Float32Array(SIZE), im = new Float32Array(SIZE);

/** Adds the power spectrum around sample `centre` to `out` (BINS values), as their maximum. */
export function loudest(samples, centre, out) {
  for (let i = 0; i < SIZE; i++) re[REVERSED[i]] = (samples[centre - BINS + i] ?? 0) * WINDOW[i];
  im.fill(0);
  fft(re, im);
  for (let k = 0; k < BINS; k++) out[k] = Math.max(out[k], re[k] * re[k] + im[k] * im[k]);
}

const mel = (hz) => 2595 * Math.log10(1 + hz / 700), hertz = (m) => 700 * (10 ** (m / 2595) - 1);

/** Height from the bottom, 0 to 1, of a frequency; and the other way round. */
export const SCALES = {
  mel: { place: (hz, top) => mel(hz) / mel(top), hz: (at, top) => hertz(at * mel(top)) },
  linear: { place: (hz, top) => hz / top, hz: (at, top) => at * top },
};

const STOPS = [[4, 3, 14], [26, 16, 66], [77, 18, 122], [128, 37, 130], [181, 54, 122], [229, 80, 100], [250, 134, 98], [254, 194, 140], [252, 252, 198]];
export const COLOURS = Uint8ClampedArray.from({ length: 1024 }, (_, i) => {
  if (i % 4 === 3) return 255;
  const at = ((i >> 2) / 255) * (STOPS.length - 1), low = Math.min(STOPS.length - 2, Math.floor(at));
  return STOPS[low][i % 4] + (at - low) * (STOPS[low + 1][i % 4] - STOPS[low][i % 4]);
});

const RANGE = 70; // dB below the loudest of what is seen

/** Draws the spectrogram of `samples` between two times (seconds) on a canvas. */
export function draw(canvas, samples, rate, from, to, scale) {
  const { width, height } = canvas, context = canvas.getContext("2d");
  const columns = Math.min(width, 1400), each = ((to - from) * rate) / columns;
  const looks = Math.max(1, Math.min(4, Math.ceil(each / BINS))); // a column longer than a window is looked at more than once
  const power = new Float32Array(columns * BINS);
  let most = -Infinity;
  for (let x = 0; x < columns; x++) {
    const column = power.subarray(x * BINS, (x + 1) * BINS);
    for (let look = 0; look < looks; look++) loudest(samples, Math.round(from * rate + each * (x + (look + 0.5) / looks)), column);
    for (let k = 0; k < BINS; k++) {
      column[k] = 10 * Math.log10(column[k] + 1e-10);
      if (k > 1 && column[k] > most) most = column[k];
    }
  }
  most = Math.max(most, -40); // silence stays dark
  const image = new ImageData(columns, height), data = new Uint32Array(image.data.buffer), colours = new Uint32Array(COLOURS.buffer);
  for (let y = 0; y < height; y++) {
    const bin = (SCALES[scale].hz(1 - (y + 0.5) / height, rate / 2) / (rate / 2)) * BINS;
    const low = Math.max(0, Math.min(BINS - 2, Math.floor(bin))), share = Math.min(1, Math.max(0, bin - low));
    for (let x = 0; x < columns; x++) {
      const value = power[x * BINS + low] * (1 - share) + power[x * BINS + low + 1] * share;
      data[y * columns + x] = colours[Math.max(0, Math.min(255, Math.round(255 * (1 + (value - most) / RANGE))))];
    }
  }
  const small = new OffscreenCanvas(columns, height);
  small.getContext("2d").putImageData(image, 0, 0);
  context.drawImage(small, 0, 0, width, height);
}

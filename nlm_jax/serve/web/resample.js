// Resampling to 16 kHz with a long windowed sinc. (A browser's own resampler dulls 48 kHz by a fifth at 6 kHz, folds a
// tenth of 9 kHz back, and takes a third off everything at 250 kHz; training resamples with soxr, which does neither.)
// half: zero crossings on both sides; beta: of the Kaiser window (9: 90 dB); edge: of the lower Nyquist frequency, half of the amplitude
const SOXR = { half: 64, beta: 9, edge: 0.955 };
const FILTERS = { kaiser_best: { half: 50 * 0.9173473712608761, beta: 12.984585247040012, edge: 0.9173473712608761 } }; // resampy's

/** The filter of a checkpoint, as `GET /info` names it; soxr's qualities are alike here. */
export const filterOf = (name) => FILTERS[name] ?? SOXR;

const CACHED = 4096; // phases of a filter that are worth keeping

function bessel(x) { // I0
  let sum = 1, term = 1;
  for (let k = 1; term > 1e-12 * sum; k++) sum += (term *= (x / (2 * k)) ** 2);
  return sum;
}

const gcd = (a, b) => (b ? gcd(b, a % b) : a);

/** Samples of context that an output sample needs on both sides, at the rate of the input. */
export const reach = (from, to, { half, edge } = SOXR) => Math.ceil((half * from) / (Math.min(from, to) * edge)) + 1;

/** `count` samples at rate `to`, the first of them at position `start` (in samples, may be a fraction) of `samples` at rate `from`. */
export function resample(samples, from, to, start, count, shape = SOXR) {
  const { half, beta, edge } = shape, out = new Float32Array(count), wide = reach(from, to, shape), taps = 2 * wide;
  const cut = (Math.min(from, to) * edge) / from, phases = to / gcd(from, to);
  const filters = new Map(), whole = bessel(beta), step = from / to;
  const filter = (share) => { // for a position `share` of a sample behind the middle
    const coefficients = new Float32Array(taps);
    for (let i = 0; i < taps; i++) {
      const x = (i - wide + 1 - share) * cut, at = x / half;
      if (Math.abs(at) < 1) coefficients[i] = cut * (x ? Math.sin(Math.PI * x) / (Math.PI * x) : 1) * (bessel(beta * Math.sqrt(1 - at * at)) / whole);
    }
    return coefficients;
  };
  for (let n = 0; n < count; n++) {
    const place = start + n * step, base = Math.floor(place + 1e-9), share = Math.max(0, place - base), phase = Math.round(share * phases);
    let kernel = filters.get(phase);
    if (!kernel) {
      kernel = filter(share);
      if (phases <= CACHED) filters.set(phase, kernel);
    }
    const first = base - wide + 1, begin = Math.max(0, -first), end = Math.min(taps, samples.length - first);
    let sum = 0;
    for (let i = begin; i < end; i++) sum += samples[first + i] * kernel[i];
    out[n] = sum;
  }
  return out;
}

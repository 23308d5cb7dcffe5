// A synthetic example recording of half a minute, so that the page can be tried without a file.
import { wavFile } from "./wav.js";

const RATE = 16_000, SECONDS = 30;

/** Repeatable noise, -1 to 1 (a linear congruence). */
function noise() {
  let state = 20_240_501;
  return () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0) / 2 ** 31;
}

/** Adds a note: a sweep between two frequencies (Hz) that rises and fades, with overtones. */
function note(out, at, length, low, high, loud, overtones = 2) {
  let phase = 0;
  for (let i = 0, count = Math.round(length * RATE), first = Math.round(at * RATE); i < count && first + i < out.length; i++) {
    const along = i / count, swell = Math.sin(Math.PI * along) ** 2;
    phase += (2 * Math.PI * (low + (high - low) * along)) / RATE;
    for (let k = 1; k <= overtones; k++) out[first + i] += (loud * swell * Math.sin(k * phase)) / k ** 2;
  }
}

/** A WAV file of 960 kB: a pigeon-like hum, a whistled song, a cricket's chirps, silence between. */
export function example() {
  const out = new Float32Array(RATE * SECONDS), random = noise();
  let last = 0;
  for (let i = 0; i < out.length; i++) out[i] = 0.004 * (last = 0.9 * last + 0.1 * random()) + 0.0006 * random(); // wind and hiss
  for (const at of [0.6, 1.5, 2.5, 5.2, 6.1, 7.1]) note(out, at, 0.6, 380, 440, 0.28, 3);
  for (let song = 0; song < 4; song++) {
    for (let n = 0; n < 7; n++) note(out, 10.3 + 2.3 * song + 0.22 * n, 0.16, 2100 + 260 * (n % 3), 2900 - 180 * n, 0.22);
  }
  for (let chirp = 0; chirp < 11; chirp++) {
    for (let pulse = 0; pulse < 3; pulse++) note(out, 22.2 + 0.55 * chirp + 0.045 * pulse, 0.03, 4700, 4800, 0.2, 1);
  }
  return new File([wavFile(out, RATE)], "example_20240501_053000.wav", { type: "audio/wav", lastModified: 0 });
}

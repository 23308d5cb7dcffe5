// The fields of the query: their values, and errors shown next to them.
import { server } from "./server.js";

export const $ = (id) => document.getElementById(id);
export const SHORTEST = 0.5; // seconds of a clip
const PLACES = { "max-tokens": "decoding", temperature: "decoding", seed: "decoding", window: "along", hop: "along", low: "band", high: "band" };

/** Shows an error next to a field and focuses it. Returns null. */
export function fault(id, text) {
  const field = $(id), place = $(`${PLACES[id] ?? id}-error`);
  place.textContent = text;
  place.hidden = false;
  field.setAttribute("aria-invalid", "true");
  field.dataset.described ??= field.getAttribute("aria-describedby") ?? "";
  field.setAttribute("aria-describedby", `${place.id} ${field.dataset.described}`.trim());
  field.closest("details")?.setAttribute("open", "");
  field.focus({ preventScroll: true });
  place.scrollIntoView({ block: "center" });
  return null;
}

/** Clears the error of a field; of all fields without an argument. */
export function well(id) {
  for (const field of id ? [$(id)] : document.querySelectorAll("[aria-invalid]")) {
    if (!field.hasAttribute("aria-invalid")) continue;
    field.removeAttribute("aria-invalid");
    if (field.dataset.described) field.setAttribute("aria-describedby", field.dataset.described);
    else field.removeAttribute("aria-describedby");
    const place = $(`${PLACES[field.id] ?? field.id}-error`);
    place.hidden = true;
    place.textContent = "";
  }
}

/** The question in a field; null if there is none. */
export function question(id = "query") {
  well(id);
  const query = $(id).value.trim();
  if (!query) return fault(id, "Write a question first.");
  if (query.includes("…")) return fault(id, "Put your own words in the place of the dots in the question.");
  return query;
}

/** A whole number in a field; undefined if it is empty, null if it is none. */
function whole(id, least, most, what) {
  const { value, valueAsNumber, validity } = $(id);
  if (!value && !validity.badInput) return undefined;
  if (Number.isInteger(valueAsNumber) && valueAsNumber >= least && valueAsNumber <= most) return valueAsNumber;
  return fault(id, `${what} must be a whole number from ${least} to ${most}.`);
}

/** The generation_config of the HTTP contract; null if a field is wrong. A seed by chance is written down too. */
export function decoding() {
  for (const id of ["max-tokens", "temperature", "seed"]) well(id);
  const longest = whole("max-tokens", 1, server.tokens, "The longest answer"), seed = whole("seed", 0, 2 ** 32 - 1, "The seed");
  const temperature = $("temperature").valueAsNumber;
  if (longest === null || seed === null) return null;
  if (!(temperature >= 0 && temperature <= 2)) return fault("temperature", "The temperature must be from 0 (the likeliest words) to 2.");
  const config = { temperature };
  if (longest !== undefined) config.max_tokens = longest;
  if (temperature) config.seed = seed ?? Math.floor(Math.random() * 2 ** 32);
  return config;
}

/** {window, hop} in seconds; null if one is wrong. */
export function grid() {
  well("window"); well("hop");
  const window = $("window").valueAsNumber, hop = $("hop").valueAsNumber, most = server.seconds;
  if (!(window >= SHORTEST && window <= most)) return fault("window", `The window must be between ${SHORTEST} and ${most} seconds.`);
  if (!(hop > 0 && hop <= window)) return fault("hop", "The hop must be above 0 and at most the window, or parts would be left out.");
  if (hop < 0.1) return fault("hop", "The hop must be at least 0.1 seconds.");
  return { window, hop };
}

/** {low, high} in Hz for the labels of a region, {} if they are all frequencies; null if they are wrong. */
export function band() {
  well("low"); well("high");
  const low = $("low").valueAsNumber, high = $("high").valueAsNumber;
  if (!(low >= 0 && low < 8000)) return fault("low", "The lowest frequency must be from 0 to below 8000 Hz.");
  if (!(high > low && high <= 8000)) return fault("high", "The highest frequency must be above the lowest and at most 8000 Hz.");
  return low === 0 && high === 8000 ? {} : { low, high };
}

/** Windows no longer than the clips of this server's model. */
export function fitGrid() {
  for (const id of ["window", "hop"]) {
    const field = $(id), before = Number(field.max);
    field.max = server.seconds;
    if (field.valueAsNumber === before || field.valueAsNumber > server.seconds) field.value = server.seconds;
  }
  $("max-tokens").max = server.tokens;
  $("max-tokens").placeholder = server.tokens;
  $("clip-length").textContent = `Up to ${server.seconds} seconds at a time.`;
}

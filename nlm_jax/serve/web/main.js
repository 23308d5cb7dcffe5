// The page: a recording, a region, a question, answers.
import { ask, info } from "./ask.js";
import { decode, part, Player, wavBase64, RATE } from "./audio.js";
import { download, merged, spans } from "./labels.js";
import { fill, preset } from "./presets.js";
import { colour, seconds, View } from "./view.js";

const $ = (id) => document.getElementById(id);
const HEARD = 10; // seconds the model hears at a time
const SHORTEST = 0.5;
const TOGETHER = 6; // windows on their way to the server at a time

const player = new Player();
const state = { file: null, samples: null, runs: [], working: null, ready: false };

const view = new View($("view"), $("scroll"), { onSelect: selected, onPlay: play });

// ---- the server ----
async function watch() {
  const found = await info(), badge = $("status");
  const status = found?.load_status ?? (found ? "ready" : "error");
  badge.dataset.state = status;
  badge.textContent = !found ? "no server" : { ready: "ready", error: "the model could not be loaded" }[status] ?? `loading: ${found.loading_stage}`;
  if (found) $("model").textContent = found.model;
  if (found?.last_error) complain(`The model could not be loaded: ${found.last_error}`);
  state.ready = status === "ready" || status === "loading";
  buttons();
  setTimeout(watch, status === "ready" ? 20_000 : 1500);
}

// ---- the recording ----
async function open(file) {
  complain("");
  stop();
  player.stop();
  $("file-name").textContent = `Reading ${file.name} …`;
  try {
    const samples = await decode(file);
    Object.assign(state, { file: file.name, samples, runs: [] });
    $("drop").classList.add("full");
    $("file-name").textContent = file.name;
    $("drop-hint").textContent = `${seconds(samples.length / RATE)} long. Drop or choose another one here.`;
    for (const id of ["answer-card", "results-card"]) $(id).hidden = true;
    $("sound").hidden = false;
    $("progress-text").textContent = "";
    view.show(samples);
  } catch (error) {
    $("file-name").textContent = state.file ?? "Drop a recording here, or choose one";
    complain(error.message);
  }
  buttons();
}

function selected(start, end) {
  if (document.activeElement !== $("start")) $("start").value = start.toFixed(2);
  if (document.activeElement !== $("end")) $("end").value = end.toFixed(2);
  $("start").max = $("end").max = view.length.toFixed(2);
  const length = end - start;
  $("heard").textContent = length > HEARD + 0.005
    ? `${seconds(length)} selected: only its first ${HEARD} s are heard. Ask every window to hear all of it.`
    : `${seconds(length)} selected` + (length < SHORTEST ? ", filled up with silence to half a second." : ".");
  if (!state.working) $("ask").textContent = "Ask about the region";
}

function typed() {
  const start = $("start").valueAsNumber, end = $("end").valueAsNumber;
  if (Number.isFinite(start) && Number.isFinite(end) && end > start) view.select(start, end);
}

async function play() {
  if (player.playing) return player.stop();
  try {
    $("play").textContent = "■ Stop";
    await player.play(state.samples, view.start, view.end, (time) => {
      view.cursor(time);
      if (time === null) $("play").textContent = "▶ Play region";
    });
  } catch {
    complain("This browser does not play sound here.");
    $("play").textContent = "▶ Play region";
  }
}

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

// ---- questions ----
function buttons() {
  const able = state.ready && state.samples && !state.working;
  $("ask").disabled = $("windows").disabled = !able;
  $("stop").hidden = !state.working;
}

function settings() {
  const config = { temperature: $("temperature").valueAsNumber || 0 }, most = $("max-tokens").valueAsNumber;
  if (most >= 1) config.max_tokens = Math.round(most);
  if (config.temperature) config.seed = Math.floor(Math.random() * 2 ** 32);
  return config;
}

/** The question; null, with a word about it, where there is none. */
function question() {
  const query = $("query").value.trim();
  complain(!query ? "Write a question first." : query.includes("…") ? "Put your own words in the place of the dots in the question." : "");
  if (query && !query.includes("…")) return query;
  $("query").focus();
  return null;
}

const wavOf = (start, end) => wavBase64(part(state.samples, start, Math.max(end, start + SHORTEST)));

function begin() {
  state.working = new AbortController();
  buttons();
  return state.working.signal;
}

function finish() {
  state.working = null;
  buttons();
}

function stop() { state.working?.abort(); }

/** The rows that answers of one kind go to; a new one where there is none yet. */
function run(kind, query) {
  let found = state.runs.find((r) => r.kind === kind && kind === "regions");
  if (!found) state.runs.push((found = { kind, query, rows: [] }));
  return found;
}

async function askRegion(event) {
  event?.preventDefault();
  if ($("ask").disabled) return;
  const query = question();
  if (!query) return;
  const signal = begin(), start = view.start, end = Math.min(view.end, start + HEARD), row = { start, end, query };
  const box = $("answer");
  $("answer-card").hidden = false;
  $("asked").textContent = `${query} (${seconds(start)} – ${seconds(end)})`;
  box.textContent = $("facts").textContent = "";
  box.classList.remove("failed");
  box.setAttribute("aria-busy", "true");
  try {
    const done = await ask(query, wavOf(start, end), settings(), {
      signal,
      onText: (text) => { box.textContent = text; $("facts").textContent = ""; },
      onWait: (ahead) => { $("facts").textContent = ahead > 1 ? `${ahead} questions are waiting …` : ahead === null ? "The server is busy; trying again …" : "Listening …"; },
    });
    row.prediction = done.text;
    box.textContent = done.text || "(an empty answer)";
    const tokens = done.usage?.completion_tokens;
    $("facts").textContent = [`${done.latency_sec.toFixed(1)} s`, tokens && `${tokens} tokens`, done.finish_reason === "length" && "cut at the longest answer"].filter(Boolean).join(" · ");
    run("regions", "answers about regions").rows.push(row);
    results(state.runs.findIndex((r) => r.kind === "regions"));
  } catch (error) {
    box.classList.add("failed");
    box.textContent = signal.aborted ? "Stopped." : error.message;
    $("facts").textContent = "";
  }
  box.setAttribute("aria-busy", "false");
  finish();
}

async function askWindows() {
  const query = question(), window = $("window").valueAsNumber, hop = $("hop").valueAsNumber;
  if (!query) return;
  if (!(window >= SHORTEST && window <= HEARD)) return complain(`The window must be between ${SHORTEST} and ${HEARD} seconds.`);
  if (!(hop > 0 && hop <= window)) return complain("The hop must be above 0 and at most the window, or parts would not be heard.");
  const signal = begin(), todo = spans(view.length, window, hop), mine = run("windows", query), config = settings();
  const at = state.runs.indexOf(mine), total = todo.length;
  let answered = 0, failed = 0;
  $("progress").hidden = false;
  $("progress").value = 0;
  const worker = async () => {
    for (let next; (next = todo.shift()) && !signal.aborted;) {
      const [start, end] = next, row = { start, end, query };
      try {
        row.prediction = (await ask(query, wavOf(start, end), config, { signal })).text;
        answered++;
      } catch (error) {
        if (signal.aborted) return;
        row.error = error.message;
        failed++;
      }
      mine.rows.push(row);
      $("progress").value = (answered + failed) / total;
      $("progress-text").textContent = `${answered + failed} of ${total} windows`;
      results(at);
    }
  };
  await Promise.all(Array.from({ length: Math.min(TOGETHER, total) }, worker));
  $("progress").hidden = true;
  const left = total - answered - failed;
  $("progress-text").textContent = [`${answered} of ${total} windows answered`, failed && `${failed} failed`, left && `${left} not asked`].filter(Boolean).join(", ") + ".";
  if (!mine.rows.length) state.runs.splice(at, 1);
  finish();
}

// ---- answers along the recording ----
let shown = 0, due = 0;

function results(at) {
  shown = at;
  due ||= requestAnimationFrame(() => { due = 0; show(); });
}

function show() {
  const { runs } = state, current = runs[shown];
  $("results-card").hidden = !current;
  if (!current) return;
  current.rows.sort((a, b) => a.start - b.start);
  view.lanes(runs);
  $("run").replaceChildren(...runs.map((r, i) => new Option(r.kind === "regions" ? "Answers about regions" : `Windows: ${r.query}`, i, false, i === shown)));
  $("run").value = shown;
  const good = current.rows.filter((r) => r.prediction !== undefined), counts = new Map();
  for (const row of good) counts.set(row.prediction, (counts.get(row.prediction) ?? 0) + 1);
  $("counts").replaceChildren(...[...counts].sort((a, b) => b[1] - a[1]).slice(0, 12).map(([text, count]) => {
    const pill = document.createElement("span");
    pill.append(swatch(text), `${text || "(empty)"} × ${count}`);
    return pill;
  }));
  const rows = $("merge").checked
    ? [...merged(current.rows).map((l) => ({ ...l, prediction: l.text })), ...current.rows.filter((r) => r.error)].sort((a, b) => a.start - b.start)
    : current.rows;
  $("rows").replaceChildren(...rows.map(line));
}

function swatch(text) {
  const mark = document.createElement("i");
  mark.style.background = colour(text.split(/\s+/).filter(Boolean).join(" "));
  return mark;
}

function line(row) {
  const tr = document.createElement("tr"), text = document.createElement("td"), listen = document.createElement("td"), button = document.createElement("button");
  for (const time of [row.start, row.end]) {
    const cell = document.createElement("td");
    cell.textContent = seconds(time);
    tr.append(cell);
  }
  if (row.error) text.className = "failed";
  else text.append(swatch(row.prediction));
  text.append(row.error ?? (row.prediction || "(empty)"));
  button.type = "button";
  button.textContent = "▶";
  button.setAttribute("aria-label", `Select and play ${seconds(row.start)} to ${seconds(row.end)}`);
  button.addEventListener("click", () => {
    player.stop();
    view.select(row.start, Math.min(row.end, view.length));
    play();
  });
  listen.append(button);
  tr.append(text, listen);
  return tr;
}

// ---- what happens when ----
const drop = $("drop");
$("file").addEventListener("change", (event) => { if (event.target.files[0]) open(event.target.files[0]); event.target.value = ""; });
for (const name of ["dragenter", "dragover"]) document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const name of ["dragleave", "drop"]) document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  const files = [...(event.dataTransfer?.files ?? [])];
  if (files.length) open(files.find((f) => f.type.startsWith("audio/")) ?? files[0]);
});

fill($("preset"));
function choose() {
  const { question: text, note } = preset($("preset").value);
  $("query").value = text;
  $("preset-note").textContent = note ?? "";
  $("preset-note").hidden = !note;
}
$("preset").addEventListener("change", () => { choose(); if (!$("query").value) $("query").focus(); });
$("query").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) askRegion(event); });
choose();

$("form").addEventListener("submit", askRegion);
$("windows").addEventListener("click", askWindows);
$("stop").addEventListener("click", stop);
$("play").addEventListener("click", play);
for (const id of ["start", "end"]) { $(id).addEventListener("input", typed); $(id).addEventListener("blur", () => selected(view.start, view.end)); }
$("all").addEventListener("click", () => view.select(0, view.length));
$("zoom-in").addEventListener("click", () => view.zoom(2));
$("zoom-out").addEventListener("click", () => view.zoom(0.5));
$("zoom-fit").addEventListener("click", () => view.look(0, view.length));
$("zoom-region").addEventListener("click", () => view.look(view.start, view.end));
$("scale").addEventListener("change", () => { view.scale = $("scale").value; view.paint(); });
$("run").addEventListener("change", () => { shown = Number($("run").value); show(); });
$("merge").addEventListener("change", show);
for (const button of document.querySelectorAll("[data-format]")) {
  button.addEventListener("click", () => download(button.dataset.format, state.file, state.runs[shown].rows));
}
watch();

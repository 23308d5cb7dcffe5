// The page: imports recordings, selects a region and a query, shows and exports answers.
import * as answers from "./answers.js";
import { askMarks, askOn, askRegion, askWindows, lastAnswer } from "./queries.js";
import { example } from "./example.js";
import * as files from "./files.js";
import { $, band, fitGrid, SHORTEST, well } from "./form.js";
import { download, build } from "./formats.js";
import { clear, complain, dropped, open, remove, show } from "./import_files.js";
import { Player } from "./player.js";
import { fillPresets, preset } from "./presets.js";
import { server } from "./server.js";
import * as session from "./session.js";
import { changed, onChange, state, unsaved } from "./state.js";
import { seconds } from "./times.js";
import { View } from "./view.js";

const player = new Player();
const view = new View($("view"), $("scroll"), { onSelect: selected, onPlay: () => play(), onRead: reading });

// ---- the picture and the region ----
onChange(() => {
  const current = state.current?.source ? state.current : null;
  if (view.recording !== current) {
    player.stop();
    $("sound").hidden = !current;
    view.show(current, server.seconds);
    if (!state.work) $("progress-text").textContent = "";
  }
  view.lanes();
});

function reading(share, problem) {
  $("reading").textContent = problem || (share < 1 ? `Reading the recording: ${Math.round(100 * share)} %` : "");
}

function selected(start, end) {
  if (document.activeElement !== $("start")) $("start").value = start.toFixed(2);
  if (document.activeElement !== $("end")) $("end").value = end.toFixed(2);
  $("start").max = $("end").max = view.length.toFixed(2);
  const length = end - start, most = server.seconds;
  $("heard").textContent = length > most + 0.005
    ? `${seconds(length)} selected: only its first ${most} s are asked about. Ask every window to cover all of it.`
    : `${seconds(length)} selected` + (length < SHORTEST ? ", filled up with silence to half a second." : ".");
}

function typed() {
  const start = $("start").valueAsNumber, end = $("end").valueAsNumber;
  if (Number.isFinite(start) && Number.isFinite(end) && end > start) view.select(start, end);
}

async function play(start = view.start, end = view.end) {
  if (player.playing) return player.stop();
  const { current } = state;
  $("play").textContent = "■ Stop";
  try {
    await player.play(current.source, start, end, (time) => {
      view.cursor(time);
      if (time === null) $("play").textContent = "▶ Play region";
    });
  } catch (error) {
    $("reading").textContent = error.name === "Error" ? error.message : "This browser does not play sound here.";
  }
}

answers.wire((start, end) => {
  if (!state.current?.source) return;
  player.stop();
  view.select(start, Math.min(end, view.length));
  view.reveal();
  play();
});

// ---- questions ----
const region = () => ({ recording: state.current, start: view.start, end: view.end });

onChange(() => {
  const { current, work, opening, clips, recordings } = state, playable = recordings.filter((one) => one.file).length;
  const able = server.able && current && !work && !opening;
  for (const id of ["ask", "windows", "everything", "marked"]) $(id).disabled = !able;
  $("clip-add").disabled = !current?.file;
  $("ask").textContent = clips.length ? `Ask about the ${clips.length} regions together` : "Ask about the region";
  $("everything").hidden = playable < 2;
  $("everything").textContent = `Ask all ${playable} recordings`;
  $("marked").hidden = !current?.marks.length;
  $("marked").textContent = `Ask the ${current?.marks.length} marked regions`;
  $("stop").hidden = !work;
  const last = lastAnswer();
  $("follow").hidden = !last || Boolean(work);
  $("start-row").hidden = recordings.length > 0;
  $("clips-count").textContent = clips.length ? ` (${clips.length})` : "";
  $("clips-clear").hidden = !clips.length;
  $("clips").replaceChildren(...clips.map((clip) => Object.assign(document.createElement("li"), { textContent: `${clip.recording.name} ${seconds(clip.start)} – ${seconds(clip.end)}` })));
});

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("ask").disabled) askRegion(region());
});
$("query").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit(); });
$("windows").addEventListener("click", () => askWindows([state.current]));
$("everything").addEventListener("click", () => askWindows(state.recordings.filter((one) => one.file)));
$("marked").addEventListener("click", () => askMarks(state.current));
$("stop").addEventListener("click", () => state.work?.stop());
$("continue").addEventListener("click", () => state.work?.look());
$("follow").addEventListener("submit", (event) => {
  event.preventDefault();
  const last = lastAnswer();
  if (last && !state.work && server.able) askOn(last.recording, last.row);
});
$("clip-add").addEventListener("click", () => { state.clips.push(region()); changed(); });
$("clips-clear").addEventListener("click", () => { state.clips = []; well("clips"); changed(); });

fillPresets($("preset"));
function choose() {
  const { question: text, note } = preset($("preset").value);
  $("query").value = text;
  $("preset-note").textContent = note ?? "";
  $("preset-note").hidden = !note;
  well("query");
}
$("preset").addEventListener("change", () => { choose(); if (!$("query").value) $("query").focus(); });
choose();
for (const id of ["query", "window", "hop", "max-tokens", "temperature", "seed", "low", "high", "follow-query"]) $(id).addEventListener("input", () => { well(id); changed(); });
for (const id of ["low", "high"]) $(id).addEventListener("change", () => { const range = band(); if (range) { view.band = { low: 0, high: 8000, ...range }; view.paint(); } });

// ---- the server ----
server.onChange(() => {
  const { status, info } = server, badge = $("status");
  badge.dataset.state = status;
  badge.textContent = { connecting: "connecting …", ready: "ready", away: "no server", error: "the model could not be loaded" }[status] ?? `loading: ${info?.loading_stage ?? ""}`;
  if (info) {
    $("model").textContent = [info.model, info.model_revision && `revision ${info.model_revision}`].filter(Boolean).join(", ");
    fitGrid();
  }
  if (status === "error" && info?.last_error) complain(`The model could not be loaded: ${info.last_error}`);
  changed();
});

// ---- recordings ----
const drop = $("drop");
$("file").addEventListener("change", (event) => { const chosen = [...event.target.files]; event.target.value = ""; if (chosen.length) open(chosen); });
for (const name of ["dragenter", "dragover"]) document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
for (const name of ["dragleave", "drop"]) document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.remove("over"); });
document.addEventListener("drop", async (event) => { const files = await dropped(event.dataTransfer); if (files.length) open(files); });
$("example").addEventListener("click", () => open([example()]));
$("clear").addEventListener("click", clear);
onChange(() => files.show({ choose: show, remove }));
onChange(answers.show);

// ---- the region's fields and the zoom ----
$("play").addEventListener("click", () => play());
for (const id of ["start", "end"]) { $(id).addEventListener("input", typed); $(id).addEventListener("blur", () => selected(view.start, view.end)); }
$("all").addEventListener("click", () => view.select(0, view.length));
$("zoom-in").addEventListener("click", () => view.zoom(2));
$("zoom-out").addEventListener("click", () => view.zoom(0.5));
$("zoom-fit").addEventListener("click", () => view.look(0, view.length));
$("zoom-region").addEventListener("click", () => view.look(view.start, view.end));
$("scale").addEventListener("change", () => { view.scale = $("scale").value; view.paint(); });
$("contrast").addEventListener("change", () => { view.range = Number($("contrast").value); view.paint(); });

// ---- downloads, and what survives ----
for (const button of document.querySelectorAll("[data-format]")) {
  button.addEventListener("click", () => {
    const { current, recordings } = state, of = { run: () => answers.runs().map((run) => ({ recording: current, run })), recording: () => parts([current]), all: () => parts(recordings) };
    const chosen = of[$("scope").value]();
    download(build(button.dataset.format, chosen));
    for (const { run } of chosen) for (const row of run.rows) if (row.prediction !== undefined) row.saved = true;
    changed();
  });
}
const parts = (recordings) => recordings.flatMap((recording) => recording.runs.map((run) => ({ recording, run })));

const FIELDS = ["preset", "query", "window", "hop", "max-tokens", "temperature", "seed"];
const form = {
  values: () => Object.fromEntries(FIELDS.map((id) => [id, $(id).value])),
  restore: (values) => { for (const id of FIELDS) if (values?.[id] !== undefined) $(id).value = values[id]; },
};
addEventListener("beforeunload", (event) => { if (unsaved() || state.work) event.preventDefault(); });
session.connect(form).then((other) => {
  const again = async () => {
    const remembered = state.recordings.find((one) => one.id === state.remembered) ?? state.recordings[0];
    if (remembered && !state.current && !state.opening) await show(remembered); // unless a file was chosen meanwhile
    for (const one of state.recordings) if (one.file) session.keep(one);
    onChange(() => session.save(form));
    changed();
  };
  $("earlier").hidden = !other;
  if (!other) return again();
  $("earlier-text").textContent = `Answers of ${other.when.toLocaleString()} about ${other.names.length === 1 ? other.names[0] : `${other.names.length} recordings`} are in this browser.`;
  $("earlier-open").addEventListener("click", async () => { $("earlier").hidden = true; await session.take(other.id, form); again(); });
  $("earlier-forget").addEventListener("click", () => { $("earlier").hidden = true; session.forget(other.id); });
  onChange(() => session.save(form));
});
server.check();

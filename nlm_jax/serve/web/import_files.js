// Import of recordings, label files and saved answers. The file chosen last is the one that is shown.
import { source } from "./audio.js";
import { $ } from "./form.js";
import { marks } from "./marks.js";
import { Recording } from "./recording.js";
import { discard, fromJson, keep } from "./session.js";
import { changed, onChange, state } from "./state.js";
import { seconds } from "./times.js";

const SOUND = /\.(wav|wave|flac|mp3|ogg|oga|opus|m4a|aac|aif|aiff|webm|mp4|caf|wma)$/i, LABELS = /\.(txt|tsv)$/i, ANSWERS = /\.(json|jsonl)$/i;
const arriving = new Set(); // recordings whose files are being read
let turn = 0;

/** Shows an error about the files or about the server. */
export function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
  if (text) $("problem").scrollIntoView({ block: "nearest" });
}

const kind = (file) => (LABELS.test(file.name) ? "labels" : ANSWERS.test(file.name) ? "answers" : file.type.startsWith("audio/") || SOUND.test(file.name) ? "sound" : "");

/** The files of a drop, those inside of folders too; each has its `path`. */
export async function dropped(transfer) {
  const entries = [...(transfer?.items ?? [])].map((item) => item.webkitGetAsEntry?.()), files = [...(transfer?.files ?? [])];
  if (!entries.some((one) => one?.isDirectory)) return files;
  const walk = async (one) => {
    if (one.isFile) {
      const file = await new Promise((done, fail) => { one.file(done, fail); });
      return [Object.assign(file, { path: one.fullPath })];
    }
    const reader = one.createReader(), inside = [];
    for (let more; (more = await new Promise((done, fail) => { reader.readEntries(done, fail); })).length;) inside.push(...more); // a hundred at a time
    return (await Promise.all(inside.filter((each) => !each.name.startsWith(".")).map(walk))).flat();
  };
  const nested = (await Promise.all(entries.filter(Boolean).map(walk))).flat();
  return nested.sort((a, b) => a.path.localeCompare(b.path));
}

/** Imports dropped or chosen files; those that cannot be read are listed in one message. */
export async function open(chosen) {
  const request = ++turn, problems = [], before = state.current, of = (name) => chosen.filter((file) => kind(file) === name);
  const known = of("sound").length + of("labels").length + of("answers").length, sounds = known ? of("sound") : chosen;
  complain("");
  if (known && known < chosen.length) problems.push(`Passed over, as they are no recordings, labels or answers: ${some(chosen.filter((file) => !kind(file)).map((file) => file.name))}.`);
  await during(async () => {
    const fallback = (sounds.length && (await openSounds(sounds, request, problems))) || before;
    for (const file of of("answers")) await attempt(problems, async () => openAnswers(file.name, await written(file), request));
    for (const file of of("labels")) await attempt(problems, async () => openLabels(file.name, await written(file), fallback, request));
  });
  if (problems.length) complain(problems.slice(0, 5).join(" ") + (problems.length > 5 ? ` And ${problems.length - 5} more.` : ""));
}

/** The text of a file in UTF-8 or UTF-16; in the code page of Windows if it is neither. */
async function written(file) {
  const bytes = new Uint8Array(await file.arrayBuffer()), wide = { "255,254": "utf-16le", "254,255": "utf-16be" }[bytes.slice(0, 2).join()];
  try {
    return new TextDecoder(wide ?? "utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

const some = (names) => names.slice(0, 4).join(", ") + (names.length > 4 ? ` and ${names.length - 4} more` : "");

async function during(act) {
  state.opening++;
  changed();
  try {
    await act();
  } finally {
    state.opening--;
    changed();
  }
}

async function attempt(problems, act) {
  try {
    await act();
  } catch (error) {
    problems.push(error.message);
  }
}

/** The recording that it put on view, or would have; null if none can be read. */
async function openSounds(chosen, request, problems) {
  const added = [];
  for (const [i, file] of chosen.entries()) {
    if (request === turn) $("file-name").textContent = `Reading ${file.name}${chosen.length > 1 ? `, ${i + 1} of ${chosen.length}` : ""} …`;
    await attempt(problems, async () => {
      const recording = entry(file);
      arriving.add(recording);
      recording.source ??= await source(file).catch((error) => { arriving.delete(recording); throw error; }); // its header alone
      recording.seconds = recording.source.seconds || recording.seconds;
      if (!added.some((one) => one === recording)) added.push(recording);
    });
  }
  for (const recording of added) {
    arriving.delete(recording);
    if (!state.recordings.includes(recording)) state.recordings.push(recording);
    keep(recording).then(changed);
  }
  for (const recording of added) {
    const before = problems.length;
    await attempt(problems, () => put(recording, request));
    if (problems.length === before) return recording; // the first that can be read is shown
    if (!recording.runs.length) state.recordings = state.recordings.filter((one) => one !== recording);
  }
  return null;
}

/** The recording of a file: the same one if it is there already, or if its answers are. Another of its name gets a number. */
function entry(file) {
  const alike = (one) => (one.file ? one.file.name === file.name && one.size === file.size && one.file.lastModified === file.lastModified
    : one.fileName === file.name && (!one.size || one.size === file.size));
  const all = [...state.recordings, ...arriving], same = all.find(alike);
  if (!same) {
    const folder = (file.path ?? file.webkitRelativePath ?? "").split("/").slice(0, -1).filter(Boolean).join("/"), [, stem, suffix] = /^(.*?)(\.[^.]*)?$/.exec(file.name);
    let name = file.name;
    if (folder && all.some((one) => one.name === name)) name = `${folder}/${file.name}`;
    for (let n = 2; all.some((one) => one.name === name); n++) name = `${stem} (${n})${suffix ?? ""}`;
    return new Recording({ name, fileName: file.name, size: file.size, file });
  }
  if (!same.file) Object.assign(same, { file, size: file.size, source: null, stored: undefined, problem: "" });
  return same;
}

/** Puts a recording on view once its sound is there, unless another was chosen meanwhile. */
async function put(recording, request) {
  if (request === turn) $("file-name").textContent = `Reading ${recording.name} …`;
  await recording.load();
  if (request !== turn) return;
  state.current = recording;
  if (!recording.runs.some((run) => run.id === state.shown) && state.shown !== "all") state.shown = "";
}

/** Shows one of the recordings. */
export async function show(recording) {
  const request = ++turn, problems = [];
  complain("");
  await during(() => attempt(problems, () => (recording.file ? put(recording, request) : without(recording, request))));
  if (request === turn && problems.length) complain(problems[0]);
}

/** A recording of which only the answers are here. */
function without(recording, request) {
  if (request !== turn) return;
  state.current = recording;
  throw new Error(`${recording.name} is not in this browser; choose the file again to hear it and to ask about it.`);
}

function openAnswers(name, content, request) {
  const loadedRecordings = fromJson(name, content);
  for (const loaded of loadedRecordings) {
    const here = state.recordings.find((one) => one.name === loaded.name);
    if (here) here.runs.push(...loaded.runs);
    else state.recordings.push(loaded);
  }
  if (request === turn) state.current ??= state.recordings.find((one) => one.name === loadedRecordings[0].name);
}

/** `fallback`: the recording that labels are about whose table and name do not say. */
function openLabels(name, content, fallback, request) {
  const stem = (path) => path.replace(/(\.table\.\d+)?(\.selections)?\.[^.]*$/i, "").toLowerCase(), { recordings } = state, lost = new Set();
  const usual = recordings.find((one) => stem(one.name) === stem(name)) ?? fallback;
  if (!usual) throw new Error(`${name}: open the recording first, then its labels.`);
  const placed = new Map();
  for (const { file, ...mark } of marks(name, content)) {
    const recording = file ? recordings.find((one) => one.fileName.toLowerCase() === file.toLowerCase()) : usual;
    if (!recording) { lost.add(file); continue; }
    if (!placed.has(recording)) placed.set(recording, []);
    if (!recording.seconds || mark.start < recording.seconds) placed.get(recording).push({ ...mark, end: Math.min(mark.end, recording.seconds || mark.end) });
  }
  for (const [recording, regions] of placed) {
    if (!regions.length) throw new Error(`${name}: all its regions lie behind the end of ${recording.name}.`);
    recording.marks = regions;
  }
  if (request === turn && placed.size && !placed.has(state.current)) state.current = [...placed.keys()][0];
  if (lost.size) throw new Error(`${name}: these recordings are not open, so their labels were left out: ${some([...lost])}.`);
}

export function remove(recording) {
  const open = recording.runs.some((run) => run.rows.some((row) => row.prediction !== undefined && !row.saved));
  if (open && !confirm(`The answers about ${recording.name} are in no download yet. Remove them?`)) return;
  take([recording]);
}

export function clear() {
  const open = state.recordings.some((one) => one.runs.some((run) => run.rows.some((row) => row.prediction !== undefined && !row.saved)));
  if (!open || confirm("Some answers are in no download yet. Remove all recordings and answers?")) take(state.recordings);
}

function take(gone) {
  turn++;
  for (const recording of gone) { recording.removed = true; discard(recording); }
  state.recordings = state.recordings.filter((one) => !one.removed);
  state.clips = state.clips.filter((clip) => !clip.recording.removed);
  if (state.current?.removed) {
    state.current = null;
    const [next] = state.recordings;
    if (next) show(next);
  }
  changed();
}

onChange(() => {
  const { current, opening, recordings } = state;
  $("drop").classList.toggle("full", recordings.length > 0);
  if (opening) return;
  $("file-name").textContent = current?.name ?? "Drop recordings here, or choose them";
  $("drop-hint").textContent = current ? `${seconds(current.seconds)} long. Drop or choose more here: recordings, labels of Raven or Audacity, answers saved as JSON.` : HINT;
});
const HINT = $("drop-hint").textContent.replace(/\s+/g, " ");

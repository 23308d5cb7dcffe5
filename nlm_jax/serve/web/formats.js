// Files of labels: a table, Raven's selections, Audacity's tracks, JSON; several files travel in a zip.
import { lines, nothing } from "./labels.js";
import { zip } from "./zip.js";

const decimal = (x) => (Number.isInteger(x) ? x.toFixed(1) : String(+x.toFixed(6)));
const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
const tab = (value) => String(value).replace(/\s+/g, " ");

export const UNANSWERED = "(not answered)"; // a label for what was not heard, which is not the same as nothing there
const named = (line) => !line.status.startsWith("answered") || !nothing(line.text);

const CSV = ["file", "start", "end", "text", "question", "status", "verdict", "original", "cut", "mark", "time", "model", "revision", "asked",
  "temperature", "seed", "max_tokens", "window", "hop", "earlier", "together_with"];

function csv(parts) {
  const rows = lines(parts).map((line) => CSV.map((name) => (name === "start" || name === "end" ? decimal(line[name]) : String(line[name]))));
  return [CSV, ...rows].map((row) => row.map(cell).join(",") + "\r\n").join("");
}

const RAVEN = ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)", "Begin File", "Species",
  "Question", "Status", "Verdict", "Cut", "Begin Date Time", "Model", "Revision", "Asked", "Temperature", "Seed", "Max Tokens", "Window (s)", "Hop (s)"];

function raven(parts) {
  const rows = lines(parts).filter(named).map((l, i) => [i + 1, "Spectrogram 1", 1, l.start.toFixed(3), l.end.toFixed(3), l.low, l.high, l.begin_file,
    l.status === "answered" ? l.text : UNANSWERED, l.question, l.status, l.verdict, l.cut, l.time, l.model, l.revision, l.asked, l.temperature, l.seed, l.max_tokens,
    l.window, l.hop]);
  return [RAVEN, ...rows].map((row) => row.map(tab).join("\t") + "\n").join("");
}

function audacity(parts) {
  return lines(parts).filter(named).map((l) => `${l.start.toFixed(6)}\t${l.end.toFixed(6)}\t${l.status === "answered" ? tab(l.text) : UNANSWERED}\n`).join("");
}

/** Everything about every window; `load` of session.js takes it again. */
function json(parts) {
  const rows = parts.flatMap(({ recording, run }) => [...run.rows].sort((a, b) => a.start - b.start).map((row) => (
    { file: recording.name, seconds: recording.seconds, kind: run.kind, window: run.window, hop: run.hop, run: run.id, ...row, saved: undefined })));
  return JSON.stringify(rows, null, 1) + "\n";
}

export const FORMATS = {
  csv: { suffix: ".csv", type: "text/csv", text: csv },
  json: { suffix: ".json", type: "application/json", text: json },
  raven: { suffix: ".Table.1.selections.txt", type: "text/plain", text: raven, each: true }, // a file for each recording
  audacity: { suffix: ".txt", type: "text/plain", text: audacity, each: true },
};

const stem = (name) => name.replace(/\.[^.]*$/, "") || "recording";

/** {name, blob}: the labels of `parts`, [{recording, run}], in one file. */
export function build(format, parts) {
  const { suffix, type, text, each } = FORMATS[format], recordings = [...new Set(parts.map((part) => part.recording))];
  const base = recordings.length === 1 ? stem(recordings[0].name) : "answers";
  if (!each || recordings.length === 1) return { name: base + suffix, blob: new Blob([text(parts)], { type }) };
  const used = new Set();
  const files = recordings.map((recording) => {
    let name = stem(recording.name);
    for (let n = 2; used.has(name.toLowerCase()); n++) name = `${stem(recording.name)}_${n}`;
    used.add(name.toLowerCase());
    return { name: name + suffix, text: text(parts.filter((part) => part.recording === recording)) };
  });
  return { name: `answers_${format}.zip`, blob: new Blob([zip(files)], { type: "application/zip" }) };
}

/** Hands a file to the browser's downloads. */
export function download({ name, blob }) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

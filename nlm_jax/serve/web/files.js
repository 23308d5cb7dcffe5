// The table of recordings: what was answered about each, a column for each question.
import { $ } from "./form.js";
import { colour } from "./lanes.js";
import { nothing, oneLine } from "./labels.js";
import { alive, clock, status, text } from "./recording.js";
import { redraw, state } from "./state.js";
import { seconds } from "./times.js";

const COLUMNS = 6; // questions that have a column, the latest

/** `actions`: {choose(recording), remove(recording)}. */
export function show({ choose, remove }) {
  const { recordings } = state;
  $("files-card").hidden = recordings.length < 2 && !recordings.some((recording) => !recording.file);
  if ($("files-card").hidden) return;
  const questions = [...new Set(recordings.flatMap(({ runs }) => runs.map((run) => run.query)))].slice(-COLUMNS), timed = recordings.some((one) => one.started !== null);
  $("files-head").replaceChildren(...["Recording", "Length", ...(timed ? ["Recorded at"] : []), ...questions, ""].map(heading));
  redraw($("files"), recordings.map((recording) => {
    const tr = document.createElement("tr"), name = document.createElement("th"), open = document.createElement("button"), gone = document.createElement("button");
    tr.className = recording === state.current ? "current" : "";
    name.scope = "row";
    open.type = gone.type = "button";
    open.textContent = open.title = recording.name;
    open.className = "name";
    open.setAttribute("aria-current", recording === state.current);
    open.addEventListener("click", () => choose(recording));
    name.append(open);
    if (!recording.file) name.append(small("choose the file again to hear it"));
    if (recording.problem) name.append(small(recording.problem));
    gone.textContent = "✕";
    gone.title = `Remove ${recording.name}`;
    gone.setAttribute("aria-label", gone.title);
    gone.addEventListener("click", () => remove(recording));
    const last = document.createElement("td");
    last.append(gone);
    tr.append(name, cell(recording.seconds ? seconds(recording.seconds) : ""), ...(timed ? [Object.assign(cell(clock(recording)), { className: "time" })] : []), ...questions.map((query) => summary(recording, query)), last);
    return tr;
  }));
  const tooLarge = recordings.filter((one) => one.file && one.stored === false).length;
  $("files-note").textContent = tooLarge ? `${tooLarge === 1 ? "One recording is" : `${tooLarge} recordings are`} too large to be here after a reload; the answers will be.` : "";
}

function heading(text) {
  const th = document.createElement("th");
  th.scope = "col";
  th.textContent = th.title = text;
  th.className = "clipped";
  return th;
}

function small(text) { return Object.assign(document.createElement("small"), { textContent: text }); }

function cell(text) { return Object.assign(document.createElement("td"), { textContent: text }); }

/** The answers of a recording to one question, the most frequent first, and what is missing. */
function summary(recording, query) {
  const td = Object.assign(document.createElement("td"), { className: "summary" }), counts = new Map(), runs = recording.runs.filter((run) => run.query === query);
  const rows = runs.filter((run) => run.kind !== "windows" || run === runs.findLast((other) => other.kind === "windows")).flatMap(alive); // asked twice: the later run
  for (const row of rows) if (status(row) === "answered") counts.set(oneLine(text(row)), (counts.get(oneLine(text(row))) ?? 0) + 1);
  td.dataset.question = rows.length ? query : "";
  const failed = rows.filter((row) => status(row) === "failed").length, left = rows.filter((row) => status(row) === "not asked").length;
  const all = [...counts].sort((a, b) => nothing(a[0]) - nothing(b[0]) || b[1] - a[1]);
  for (const [words, count] of all.slice(0, 3)) {
    const line = document.createElement("span"), mark = document.createElement("i");
    mark.style.background = colour(words);
    line.className = "clipped";
    line.title = words;
    line.append(mark, `${words || "(empty)"}${count > 1 ? ` × ${count}` : ""}`);
    td.append(line);
  }
  if (all.length > 3) td.append(small(`and ${all.length - 3} other answer${all.length > 4 ? "s" : ""}`));
  if (failed || left) td.append(Object.assign(small([failed && `${failed} failed`, left && `${left} not asked`].filter(Boolean).join(", ")), { className: "failed" }));
  return td;
}

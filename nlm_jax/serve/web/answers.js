// The table of answers of the recording in view: filtered, sorted, accepted, corrected, deleted, queried again.
import { askAgain } from "./queries.js";
import { $ } from "./form.js";
import { colour } from "./lanes.js";
import { merged, nothing, oneLine } from "./labels.js";
import { alive, clock, status } from "./recording.js";
import { changed, redraw, state, unsaved } from "./state.js";
import { seconds } from "./times.js";

const MOST = 200; // lines drawn, unless all are asked for
let everything = false, play = () => {};

/** `onPlay(start, end)` selects and plays. */
export function wire(onPlay) {
  play = onPlay;
  $("run").addEventListener("change", () => { state.shown = $("run").value; everything = false; changed(); });
  for (const id of ["merge", "order", "only"]) $(id).addEventListener("change", changed);
  $("filter").addEventListener("input", changed);
  $("rows-all").addEventListener("click", () => { everything = true; changed(); });
  $("undelete").addEventListener("click", () => { for (const row of runs().flatMap((run) => run.rows)) if (row.verdict === "deleted") back(row); changed(); });
  $("scope").addEventListener("change", () => { scoped = true; });
  $("again").addEventListener("click", () => askAgain(state.current, missing()));
  $("remove-run").addEventListener("click", () => {
    const { current } = state, gone = runs();
    if (gone.some((run) => run.rows.some((row) => row.prediction !== undefined && !row.saved)) && !confirm("These answers are in no download yet. Remove them?")) return;
    for (const run of gone) current.drop(run);
    changed();
  });
}

/** The runs that the table is about. */
export function runs() {
  const all = state.current?.runs ?? [];
  if (state.shown === "all") return all;
  const one = all.find((run) => run.id === state.shown) ?? all.at(-1);
  return one ? [one] : [];
}

const missing = () => runs().map((run) => [run, alive(run).filter((row) => status(row) !== "answered")]).filter(([, rows]) => rows.length);

const LABEL = { regions: "Regions", windows: "Windows", marks: "Marked regions" };

export function show() {
  downloads();
  const { current } = state, all = current?.runs ?? [];
  $("results-card").hidden = !all.some((run) => run.rows.length);
  if ($("results-card").hidden || $("rows").contains(document.activeElement?.closest("input"))) return; // a correction is being written
  const chosen = runs();
  $("run").replaceChildren(...all.map((run) => new Option(`${LABEL[run.kind] ?? run.kind}: ${run.query}`, run.id)), ...(all.length > 1 ? [new Option("All questions", "all")] : []));
  $("run").value = chosen.length === 1 && state.shown !== "all" ? chosen[0].id : "all";
  const labels = chosen.flatMap((run) => merged(alive(run), $("merge").checked).map((label) => ({ ...label, run }))).filter((label) => label.status !== "not asked");
  counts(labels);
  lines(labels);
  provenance(chosen);
  lacking(chosen);
}

function counts(labels) {
  const counts = new Map();
  for (const { text, status: is, rows } of labels) if (is === "answered") counts.set(text, (counts.get(text) ?? 0) + rows.length);
  $("counts").replaceChildren(...[...counts].sort((a, b) => b[1] - a[1]).slice(0, 12).map(([text, count]) => {
    const pill = document.createElement("span"), words = document.createElement("b");
    words.textContent = text || "(empty)";
    pill.title = text;
    pill.append(swatch(text), words, ` × ${count}`);
    return pill;
  }));
}

const ONLY = {
  new: (label) => label.status === "answered" && !label.verdict, accepted: (label) => label.verdict === "accepted" || label.verdict === "corrected",
  named: (label) => label.status === "answered" && !nothing(label.text), failed: (label) => label.status === "failed", cut: (label) => label.cut,
};

let onView = []; // the labels in the table

const SHOWN = ["start", "end", "text", "status", "verdict", "reason", "cut", "run"];

function equal(some, others) {
  return some.length === others.length && some.every((label, i) => SHOWN.every((key) => label[key] === others[i][key])
    && label.rows.length === others[i].rows.length && label.rows[0] === others[i].rows[0] && label.rows.at(-1) === others[i].rows.at(-1));
}

function lines(labels) {
  const only = ONLY[$("only").value] ?? (() => true), words = $("filter").value.trim().toLowerCase();
  const fit = labels.filter((label) => only(label) && `${label.text} ${label.reason}`.toLowerCase().includes(words));
  fit.sort($("order").value === "answer" ? (a, b) => a.text.localeCompare(b.text) || a.start - b.start : (a, b) => a.start - b.start);
  const drawn = everything ? fit : fit.slice(0, MOST);
  document.querySelector(".answers").classList.toggle("timed", state.current.started !== null);
  if (!equal(drawn, onView)) redraw($("rows"), (onView = drawn).map(line));
  $("rows-all").hidden = drawn.length === fit.length;
  $("rows-note").textContent = drawn.length < fit.length ? `The first ${MOST} of ${fit.length}.` : fit.length < labels.length ? `${fit.length} of ${labels.length}.` : "";
}

/** Model, date and settings of the answers: a line for each combination. */
function provenance(chosen) {
  const spans = new Map();
  for (const run of chosen) {
    for (const { model, revision, asked, settings } of alive(run)) {
      if (!asked) continue;
      const grid = run.window ? [`window ${run.window} s`, `hop ${run.hop} s`] : [], used = Object.entries(settings ?? {}).map(([name, value]) => `${name.replace("_", " ")} ${value}`);
      const words = [`${model}${revision && ` revision ${revision}`}`, ...used, ...grid].join(", "), when = spans.get(words) ?? [asked, asked];
      spans.set(words, [when[0] < asked ? when[0] : asked, when[1] > asked ? when[1] : asked]);
    }
  }
  const time = (iso) => iso.replace("T", " ").replace("Z", " UTC");
  $("provenance").replaceChildren(...[...spans].slice(-4).map(([words, [first, last]]) => Object.assign(document.createElement("li"),
    { textContent: `${words}; asked ${time(first)}${last === first ? "" : ` to ${time(last)}`}` })));
}

function lacking(chosen) {
  const rows = chosen.flatMap(alive), count = (is) => rows.filter((row) => status(row) === is).length, failed = count("failed"), left = count("not asked");
  $("missing").hidden = !(failed || left) || Boolean(state.work);
  $("missing-text").textContent = [failed && `${failed} failed`, left && `${left} not asked yet`].filter(Boolean).join(", ") + ". Nothing is known about these parts; the downloads say so.";
  $("undelete").hidden = !chosen.some((run) => run.rows.some((row) => row.verdict === "deleted"));
}

let scoped = false; // somebody chose what to download

/** What can be downloaded: by default all there is. */
function downloads() {
  const answered = state.recordings.filter((one) => one.runs.some((run) => run.rows.length)), open = unsaved(), scope = $("scope"), here = answered.includes(state.current);
  $("download-card").hidden = !answered.length;
  for (const name of ["run", "recording"]) scope.querySelector(`[value=${name}]`).disabled = !here;
  if (!scoped || (!here && scope.value !== "all")) scope.value = answered.length > 1 || !here ? "all" : "recording";
  $("unsaved").textContent = open ? `${open} answer${open === 1 ? " is" : "s are"} in no download yet.` : "";
}

function swatch(text) {
  const mark = document.createElement("i");
  mark.style.background = colour(oneLine(text));
  return mark;
}

function cell(text, title) {
  const td = document.createElement("td");
  td.textContent = text;
  if (title) td.title = title;
  return td;
}

function button(text, label, act, pressed) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.title = label;
  button.setAttribute("aria-label", label);
  if (pressed !== undefined) button.setAttribute("aria-pressed", pressed);
  button.addEventListener("click", act);
  return button;
}

function line(label) {
  const tr = document.createElement("tr"), answer = document.createElement("td"), tools = document.createElement("td"), { rows } = label, [row] = rows, { current } = state;
  const time = cell(clock(current, label.start)), when = `${seconds(label.start)} to ${seconds(label.end)}`;
  time.className = "time";
  const question = cell((row.earlier ? "↳ " : "") + row.query, row.query);
  question.className = "clipped";
  tr.append(cell(seconds(label.start)), cell(seconds(label.end)), time, question, answer, tools);
  const words = document.createElement("span");
  words.className = "clipped words";
  words.title = words.textContent = label.status === "failed" ? label.reason : label.text || "(empty)";
  answer.className = label.status === "failed" ? "failed" : `answer-cell ${label.verdict}`;
  if (label.status !== "failed") answer.append(swatch(label.text));
  answer.append(words);
  const note = [label.cut && "cut at the longest answer", label.verdict, row.mark && `marked: ${row.mark}`].filter(Boolean).join(", ");
  if (note) answer.append(Object.assign(document.createElement("small"), { textContent: note }));
  tools.className = "row-tools";
  tools.append(button("▶", `Select and play ${when}`, () => play(label.start, label.end)));
  if (label.status === "failed") tools.append(button("↻", `Ask about ${when} again`, () => askAgain(current, [[label.run, rows]])));
  else {
    if (label.verdict !== "corrected") tools.append(button("✓", `Accept the answer about ${when}`, () => verdict(rows, label.verdict === "accepted" ? undefined : "accepted"), label.verdict === "accepted"));
    tools.append(button("✎", `Correct the answer about ${when}`, () => correct(answer, label)));
  }
  tools.append(button("✕", `Delete the answer about ${when}`, () => verdict(rows, "deleted")));
  return tr;
}

function back(row) {
  if (row.corrected === undefined) delete row.verdict;
  else row.verdict = "corrected";
}

function verdict(rows, value) {
  for (const row of rows) {
    if (value) row.verdict = value;
    else delete row.verdict;
    delete row.saved;
  }
  changed();
}

function correct(place, label) {
  const field = document.createElement("input");
  field.type = "text";
  field.value = label.text;
  field.setAttribute("aria-label", "Corrected answer; Enter keeps it, Escape does not");
  let over = false;
  const end = (keep) => {
    if (over) return;
    over = true;
    const text = oneLine(field.value);
    field.remove();
    for (const row of keep && text !== label.text ? label.rows : []) {
      if (text === oneLine(row.prediction ?? "")) { delete row.corrected; delete row.verdict; }
      else Object.assign(row, { corrected: text, verdict: "corrected" });
      delete row.saved;
    }
    changed();
  };
  field.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === "Escape") { event.preventDefault(); end(event.key === "Enter"); } });
  field.addEventListener("blur", () => end(true));
  onView = []; // the table is to be drawn anew afterwards
  place.replaceChildren(field);
  field.focus();
  field.select();
}

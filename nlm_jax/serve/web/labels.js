// Answers as labels: merged neighbours, and the lines that every format is made of.
import { alive, clock, status, text } from "./recording.js";

const CLOSE = 0.01; // seconds between two windows that still count as neighbours

/** [start, end] of windows over a recording, a hop apart until all of it is covered; the last may reach beyond its end. */
export function spans(seconds, window, hop) {
  const starts = [0];
  while (starts.at(-1) + window < seconds - CLOSE) starts.push(starts.length * hop);
  return starts.map((start) => [start, start + window]);
}

/** An answer that names nothing: in the table, but no label. */
export const nothing = (answer) => ["", "none"].includes(answer.toLowerCase().replace(/^\.+|\.+$/g, ""));

export const oneLine = (answer) => answer.split(/\s+/).filter(Boolean).join(" ");

/**
 * Rows as labels in order of time: [{start, end, text, status, verdict, cut, rows}]. Equal answers about neighbouring or
 * overlapping windows are one if `join`; windows that failed or were not asked are labels without text.
 */
export function merged(rows, join = true) {
  const joined = [];
  for (const row of [...rows].sort((a, b) => a.start - b.start)) {
    const is = status(row), label = { start: row.start, end: row.end, text: oneLine(text(row) ?? ""), status: is, verdict: row.verdict ?? "",
      reason: row.error ?? "", cut: Boolean(row.cut), rows: [row] };
    const last = joined.at(-1), same = last && ["text", "status", "verdict", "reason", "cut"].every((key) => last[key] === label[key])
      && oneLine(last.rows[0].prediction ?? "") === oneLine(row.prediction ?? "") && last.rows[0].mark === row.mark;
    if (join && same && !row.earlier && !row.others && label.start <= last.end + CLOSE) {
      last.end = Math.max(last.end, label.end);
      last.rows.push(row);
    } else joined.push(label);
  }
  return joined;
}

const turns = (row) => (row.earlier ?? []).map(({ query, prediction }) => `${query} -> ${oneLine(prediction)}`).join(" | ");
const others = (row) => (row.others ?? []).map(({ file, start, end }) => `${file} ${start.toFixed(2)}-${end.toFixed(2)} s`).join(" | ");

/** Everything that a line of a label file can say about a label. */
export function facts(recording, run, label) {
  const [row] = label.rows, { settings = {} } = row;
  return {
    file: recording.name, begin_file: recording.fileName, start: label.start, end: label.end, text: label.text, question: row.query,
    status: label.status + (label.reason && `: ${label.reason}`), verdict: label.verdict,
    original: row.corrected === undefined ? "" : oneLine(row.prediction ?? ""), cut: label.cut ? "yes" : "",
    mark: row.mark ?? "", low: row.low ?? 0, high: row.high ?? 8000, time: clock(recording, label.start),
    model: row.model ?? "", revision: row.revision ?? "", asked: row.asked ?? "",
    temperature: settings.temperature ?? "", seed: settings.seed ?? "", max_tokens: settings.max_tokens ?? "",
    window: run.window ?? "", hop: run.hop ?? "", earlier: turns(row), together_with: others(row),
  };
}

/** The labels of `parts`, [{recording, run}], with everything about each. */
export const lines = (parts) => parts.flatMap(({ recording, run }) => merged(alive(run)).map((label) => facts(recording, run, label)));

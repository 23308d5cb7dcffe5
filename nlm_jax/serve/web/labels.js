// Answers as labels, in the formats that `nlm infer --labels` writes.
const CLOSE = 0.01; // seconds between two windows that still count as neighbours

/** Windows over a recording, a hop apart until all of it has been heard; the last may reach beyond its end. */
export function spans(seconds, window, hop) {
  const starts = [0];
  while (starts.at(-1) + window < seconds - CLOSE) starts.push(starts.length * hop);
  return starts.map((start) => [start, start + window]);
}

/** Rows {start, end, prediction} as labels in order; equal ones about neighbouring or overlapping windows are one. */
export function merged(rows) {
  const found = [];
  for (const row of rows.filter((r) => r.prediction !== undefined).sort((a, b) => a.start - b.start)) {
    const label = { start: row.start, end: row.end, text: row.prediction.split(/\s+/).filter(Boolean).join(" ") };
    const last = found.at(-1);
    if (last && last.text === label.text && label.start <= last.end + CLOSE) last.end = Math.max(last.end, label.end);
    else found.push(label);
  }
  return found;
}

/** An answer that names nothing: in the table, but no label. */
export const nothing = (text) => ["", "none"].includes(text.toLowerCase().replace(/^\.+|\.+$/g, ""));

const number = (x) => (Number.isInteger(x) ? x.toFixed(1) : String(x));
const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const RAVEN = ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)", "Begin File", "Species"];

export const FORMATS = {
  csv: {
    name: (stem) => `${stem}.csv`, type: "text/csv",
    text: (file, rows) => [["file", "start", "end", "text"], ...merged(rows).map((l) => [file, number(l.start), number(l.end), l.text])]
      .map((row) => row.map(cell).join(",") + "\r\n").join(""),
  },
  raven: {
    name: (stem) => `${stem}.Table.1.selections.txt`, type: "text/plain",
    text: (file, rows) => [RAVEN, ...merged(rows).filter((l) => !nothing(l.text)).map((l, i) =>
      [i + 1, "Spectrogram 1", 1, l.start.toFixed(3), l.end.toFixed(3), 0, 8000, file, l.text])].map((row) => row.join("\t") + "\n").join(""),
  },
  audacity: {
    name: (stem) => `${stem}.txt`, type: "text/plain",
    text: (file, rows) => merged(rows).filter((l) => !nothing(l.text))
      .map((l) => `${l.start.toFixed(6)}\t${l.end.toFixed(6)}\t${l.text}\n`).join(""),
  },
  json: {
    name: (stem) => `${stem}.json`, type: "application/json",
    text: (file, rows) => JSON.stringify(rows.map(({ start, end, query, prediction, error }) => ({ file, start, end, query, prediction, error })), null, 1) + "\n",
  },
};

/** Hands a file of labels to the browser's downloads. */
export function download(format, file, rows) {
  const { name, type, text } = FORMATS[format];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text(file, rows)], { type }));
  link.download = name(file.replace(/\.[^.]*$/, "") || "recording");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

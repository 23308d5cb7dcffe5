// Labels of Raven or Audacity as regions to query.
const name = (path) => path.split(/[\\/]/).at(-1);
const LABELS = ["species", "label", "common name", "annotation", "class", "tags", "sound type", "call type"];

/** A time or frequency; a decimal comma is one too. NaN if it is none. */
const number = (text) => (text?.trim() ? Number(text.trim().replace(/^(-?\d+),(\d+)$/, "$1.$2")) : NaN);

/** [{file ("" = the recording next to it), start, end, text, low, high}] of a label file. Throws an Error in plain words. */
export function marks(file, content) {
  const lines = content.replace(/^\ufeff/, "").split(/\r\n|\n|\r/).filter((line) => line.trim());
  const header = (lines[0] ?? "").split("\t").map((cell) => cell.trim().toLowerCase());
  const regions = header.includes("begin time (s)") ? raven(header, lines.slice(1)) : audacity(lines);
  if (!regions.length) throw new Error(`${file} holds no regions: a Raven selection table or an Audacity label track is expected.`);
  return regions;
}

function raven(header, lines) {
  const seen = new Set();
  return lines.map((line) => {
    const cells = line.split("\t"), get = (column) => cells[header.indexOf(column)]?.trim() ?? "";
    const begin = number(get("begin time (s)")), end = number(get("end time (s)")), offset = number(get("file offset (s)"));
    const length = Number.isFinite(end) ? end - begin : number(get("delta time (s)")), start = Number.isFinite(offset) ? offset : begin;
    const text = LABELS.map(get).find(Boolean) ?? "", low = number(get("low freq (hz)")), high = number(get("high freq (hz)"));
    return { file: name(get("begin file") || get("begin path")), start, end: start + length, text, ...(high > low ? { low, high } : {}) };
  }).filter((mark) => {
    const key = [mark.file, mark.start.toFixed(4), mark.end.toFixed(4), mark.text].join("\t"); // waveform and spectrogram list one selection each
    return mark.end > mark.start && mark.start >= 0 && !seen.has(key) && seen.add(key);
  });
}

function audacity(lines) {
  const regions = [];
  for (const line of lines) {
    const cells = line.split("\t");
    if (line.startsWith("\\")) { // frequencies of the label before
      const [low, high] = cells.slice(1).map(number);
      if (regions.length && high > low && low >= 0) Object.assign(regions.at(-1), { low, high });
      continue;
    }
    const [start, end] = cells.slice(0, 2).map(number);
    if (start >= 0 && end > start) regions.push({ file: "", start, end, text: (cells[2] ?? "").trim() });
  }
  return regions;
}

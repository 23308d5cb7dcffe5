// Recordings, the runs of questions about each, and the rows of answers in a run.
import { source } from "./audio.js";

let counter = 0;
export const ident = () => `${Date.now().toString(36)}-${(counter++).toString(36)}-${Math.floor(Math.random() * 2 ** 30).toString(36)}`;

const STAMP = /(?<!\d)((?:19|20)\d\d)(\d\d)(\d\d)[_$T-](\d\d)(\d\d)(\d\d)(?!\d{1,2}(?!\d))/;
const HEX = /^[0-9A-F]{8}$/; // AudioMoth before firmware 1.2: seconds since 1970 (UTC)
const HEX_FROM = Date.UTC(2015, 0), HEX_TO = Date.UTC(2030, 0);

/**
 * When a recording began, from the name an AudioMoth or a Song Meter gives it; null if it has none.
 * The recorder's own clock, in milliseconds as if it were UTC.
 */
export function started(name) {
  const stem = name.replace(/^.*[\\/]/, "").replace(/\.[^.]*$/, ""), match = STAMP.exec(stem);
  if (match) {
    const [year, month, day, hour, minute, second] = match.slice(1).map(Number);
    const time = Date.UTC(year, month - 1, day, hour, minute, second), date = new Date(time);
    const real = date.getUTCMonth() === month - 1 && date.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
    return real ? time : null;
  }
  const time = HEX.test(stem) ? parseInt(stem, 16) * 1000 : NaN;
  return time >= HEX_FROM && time < HEX_TO ? time : null;
}

/** The date and time `seconds` into a recording, "2024-05-01 05:30:00"; "" if its name does not say when it began. */
export function clock(recording, seconds = 0) {
  if (recording.started === null) return "";
  return new Date(recording.started + Math.round(seconds * 1000)).toISOString().slice(0, 19).replace("T", " ");
}

export class Recording {
  /**
   * `file` is null for a recording of which only the answers are there (a saved session, a JSON file). `name` is its own
   * among all that are open, `fileName` may be another's too (in another folder).
   */
  constructor({ id = ident(), name, fileName = name, size = 0, file = null, seconds = 0, marks = [], runs = [] }) {
    Object.assign(this, { id, name, fileName, size, file, seconds, marks, runs });
    this.started = started(name);
    this.source = this.overview = null;
    this.problem = "";
  }

  /** Makes its sound ready to be read. Throws an Error in plain words. */
  async load() {
    if (!this.file) throw new Error(`${this.name} is not in this browser; choose the file again to hear it and to ask about it.`);
    try {
      this.source ??= await (this.opening ??= source(this.file));
      await this.source.load();
      this.seconds = this.source.seconds;
      this.problem = "";
    } catch (error) {
      this.problem = error.message;
      throw error;
    } finally {
      this.opening = null;
    }
    return this.source;
  }

  /** The run that answers about regions and one question go to; a new one if there is none. */
  regions(query) {
    return this.runs.find((run) => run.kind === "regions" && run.query === query) ?? this.add({ kind: "regions", query });
  }

  add(run) {
    const added = { id: ident(), window: null, hop: null, rows: [], ...run };
    this.runs.push(added);
    return added;
  }

  /** Removes a run, or the runs that have no rows. */
  drop(run) { this.runs = this.runs.filter((other) => other !== run && other.rows.length); }
}

/** The text that counts for a row: the correction, else the model's answer; undefined if there is neither. */
export const text = (row) => row.corrected ?? row.prediction;

/** "answered", "failed" or "not asked". */
export const status = (row) => (text(row) !== undefined ? "answered" : row.error !== undefined ? "failed" : "not asked");

/** Rows that are not deleted. */
export const alive = (run) => run.rows.filter((row) => row.verdict !== "deleted");

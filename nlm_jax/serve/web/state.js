// What the page knows, in one place. Handlers that wait keep the recording they began with, never `state.current`.
export const state = {
  recordings: [],
  current: null, // the recording on view
  work: null, // what is being asked: {stop()}
  opening: 0, // files that are being read
  clips: [], // regions of one question: [{recording, start, end}]
  shown: "", // id of the run in the table; "all" = every question
};

const listeners = [];
let due = 0;

/** `listener()` runs soon after each change, once for several. */
export const onChange = (listener) => listeners.push(listener);

export function changed() {
  due ||= setTimeout(() => { due = 0; for (const listener of listeners) listener(); }, 16);
}

/** Rows that have an answer which is in no download yet. */
export function unsaved() {
  let count = 0;
  for (const { runs } of state.recordings) for (const { rows } of runs) for (const row of rows) count += !row.saved && row.prediction !== undefined && row.verdict !== "deleted";
  return count;
}

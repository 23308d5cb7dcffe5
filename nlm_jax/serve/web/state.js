// The state of the page. Asynchronous handlers use the recording they started with, never `state.current`.
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
  due ||= setTimeout(changedNow, state.work ? 200 : 16); // a run must not draw all the time
}

/** The listeners run at once. */
export function changedNow() {
  clearTimeout(due);
  due = 0;
  for (const listener of listeners) listener();
}

/** Rows that have an answer which is in no download yet. */
export function unsaved() {
  let count = 0;
  for (const { runs } of state.recordings) for (const { rows } of runs) for (const row of rows) count += !row.saved && row.prediction !== undefined && row.verdict !== "deleted";
  return count;
}

/** Puts lines in the place of those in a table, without taking the focus from the button that was pressed there. */
export function redraw(body, lines) {
  const { activeElement } = document, inside = body.contains(activeElement) ? activeElement : null, label = inside?.getAttribute("aria-label") ?? inside?.title;
  const place = inside ? [...body.children].indexOf(inside.closest("tr")) : -1;
  body.replaceChildren(...lines);
  if (!inside) return;
  const same = [...body.querySelectorAll("button")].find((button) => (button.getAttribute("aria-label") ?? button.title) === label);
  (same ?? body.children[Math.min(place, body.children.length - 1)]?.querySelector("button"))?.focus({ preventScroll: true });
}

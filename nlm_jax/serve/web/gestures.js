// Mouse, finger and keys on the picture.
const MARGIN = 9; // pixels next to an edge that still take hold of it

/** Makes a View answer to pointers, keys and the wheel; the space bar calls `onPlay`. */
export function gestures(view, onPlay) {
  pointer(view);
  view.root.addEventListener("keydown", (event) => key(view, event, onPlay));
  view.root.addEventListener("wheel", (event) => wheel(view, event), { passive: false });
}

function pointer(view) {
  const { root } = view;
  let hold = null;
  root.addEventListener("pointerdown", (event) => {
    if (!view.recording || event.button) return;
    const x = event.clientX - root.getBoundingClientRect().left, reach = event.pointerType === "touch" ? 2 * MARGIN : MARGIN;
    const near = (time) => Math.abs(view.x(time) - x) < reach;
    const fixed = near(view.end) ? view.start : near(view.start) ? view.end : view.time(x);
    hold = { id: event.pointerId, fixed, x, moved: near(view.end) || near(view.start) };
    root.setPointerCapture(event.pointerId);
    root.focus({ preventScroll: true });
  });
  root.addEventListener("pointermove", (event) => {
    if (hold?.id !== event.pointerId) return;
    const x = Math.max(0, Math.min(root.clientWidth, event.clientX - root.getBoundingClientRect().left));
    hold.moved ||= Math.abs(x - hold.x) > 4;
    if (hold.moved) view.select(hold.fixed, view.time(x));
  });
  root.addEventListener("pointerup", () => {
    if (hold && !hold.moved) view.moveTo(hold.fixed); // a click moves the region there
    hold = null;
  });
  root.addEventListener("pointercancel", () => { hold = null; });
}

function key(view, event, onPlay) {
  if (event.ctrlKey || event.altKey || event.metaKey || !view.recording) return;
  const length = view.end - view.start, step = Math.max(0.01, Math.round((view.to - view.from) * 2) / 200);
  const along = (by) => (event.shiftKey ? view.select(view.start, Math.max(view.start, view.end + by)) : view.moveTo(view.start + by));
  const keys = {
    ArrowLeft: () => along(-step), ArrowRight: () => along(step), ArrowDown: () => along(-step), ArrowUp: () => along(step),
    PageUp: () => view.moveTo(view.start - length), PageDown: () => view.moveTo(view.start + length),
    Home: () => (event.shiftKey ? view.select(0, view.end) : view.moveTo(0)),
    End: () => (event.shiftKey ? view.select(view.start, view.length) : view.moveTo(view.length)),
    " ": onPlay, "+": () => view.zoom(2), "=": () => view.zoom(2), "-": () => view.zoom(0.5),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
  view.reveal();
}

function wheel(view, event) {
  if (!view.recording || !(event.ctrlKey || event.shiftKey)) return; // a plain wheel scrolls the page
  event.preventDefault();
  if (event.ctrlKey) {
    view.zoom(event.deltaY < 0 ? 1.25 : 0.8, view.time(event.clientX - view.root.getBoundingClientRect().left));
  } else {
    const by = ((event.deltaY || event.deltaX) / 600) * (view.to - view.from);
    view.look(view.from + by, view.to + by);
  }
}

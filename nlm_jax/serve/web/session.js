// State that survives a reload: answers and, if they fit, recordings, in the browser's own database; and answers from JSON files.
import { ident, Recording } from "./recording.js";
import { state } from "./state.js";

const MOST = 2 ** 30; // bytes of recordings that are stored
const DAYS = 30; // a session that long unused is removed
const FIELDS = { start: "number", end: "number", length: "number", query: "string", prediction: "string", error: "string", corrected: "string", verdict: "string",
  mark: "string", low: "number", high: "number", cut: "boolean", tokens: "number", model: "string", revision: "string", asked: "string" };

const request = (operation) => new Promise((done, fail) => { operation.onsuccess = () => done(operation.result); operation.onerror = () => fail(operation.error); });

let base = null, id = "", timer = null, write = null;

function store(mode, name) { return base.transaction(name, mode).objectStore(name); }

/** Opens the database and takes up this tab's session. Returns what of another session could be taken up: {id, when, names} or null. */
export async function connect(form) {
  try {
    const opening = indexedDB.open("nlm_jax", 1);
    opening.onupgradeneeded = () => { opening.result.createObjectStore("sessions", { keyPath: "id" }); opening.result.createObjectStore("files"); };
    base = await request(opening);
    id = sessionStorage.getItem("session") ?? "";
    if (id && !(await own(id))) id = ""; // a duplicated tab
    const sessions = await request(store("readonly", "sessions").getAll());
    for (const old of sessions.filter((one) => Date.now() - one.changed > DAYS * 86_400_000)) await forget(old.id);
    const previous = sessions.find((one) => id && one.id === id);
    if (previous) await restore(id, form);
    if (previous?.recordings.length) return null; // an empty one does not hide what another tab left
    id ||= ident();
    await own(id);
    sessionStorage.setItem("session", id);
    for (const one of sessions.sort((a, b) => b.changed - a.changed)) {
      if (one.recordings.length && (await free(one.id))) return { id: one.id, when: new Date(one.changed), names: one.recordings.map((r) => r.name) };
    }
  } catch (error) {
    console.warn(`nothing is stored over a reload: ${error}`);
    base = null;
  }
  return null;
}

/** Holds on to a session for as long as this tab is open; false if another tab has it. */
function own(name) {
  return new Promise((done) => {
    if (!navigator.locks) return done(true); // only there on https and localhost
    navigator.locks.request(`nlm_jax ${name}`, { ifAvailable: true }, (lock) => {
      done(Boolean(lock));
      return lock && new Promise(() => {});
    });
  });
}

const free = async (name) => !navigator.locks || !(await navigator.locks.query()).held.some((lock) => lock.name === `nlm_jax ${name}`);

/** Takes up a session in place of this tab's. */
export async function take(other, form) {
  await own(other);
  id = other;
  sessionStorage.setItem("session", id);
  await restore(id, form);
}

async function restore(name, form) {
  const session = await request(store("readonly", "sessions").get(name));
  for (const saved of session.recordings) {
    const file = await request(store("readonly", "files").get(`${name}/${saved.id}`));
    state.recordings.push(Object.assign(new Recording({ ...saved, file: file ?? null }), { stored: Boolean(file) }));
  }
  state.shown = session.shown;
  state.remembered = session.current;
  form.restore(session.form);
}

export async function forget(name = id) {
  if (!base) return;
  const files = store("readwrite", "files");
  for (const key of await request(files.getAllKeys())) if (key.startsWith(`${name}/`)) await request(files.delete(key));
  await request(store("readwrite", "sessions").delete(name));
}

/** Stores a recording's file, if there is space for it. */
export async function keep(recording) {
  if (!base || recording.stored !== undefined) return;
  recording.stored = false;
  const used = state.recordings.reduce((sum, one) => sum + (one.stored ? one.size : 0), 0);
  const { quota = 0, usage = 0 } = (await navigator.storage?.estimate?.().catch(() => ({}))) ?? {};
  if (used + recording.size > MOST || (quota && usage + 1.5 * recording.size > quota)) return;
  recording.stored = true;
  try {
    await request(store("readwrite", "files").put(recording.file, `${id}/${recording.id}`));
  } catch {
    recording.stored = false;
  }
  if (recording.removed) await discard(recording); // meanwhile
}

export async function discard(recording) { if (base) await request(store("readwrite", "files").delete(`${id}/${recording.id}`)).catch(() => {}); }

/** Stores the answers within 300 ms, and at once if the tab is hidden: a hidden tab's timers are slow and it may be closed next. */
export function save(form) {
  if (!base) return;
  write = () => {
    clearTimeout(timer);
    write = timer = null;
    const recordings = state.recordings.map(({ id: one, name, fileName, size, seconds, marks, runs }) => ({ id: one, name, fileName, size, seconds, marks, runs }));
    const session = { id, changed: Date.now(), shown: state.shown, current: state.current?.id ?? "", form: form.values(), recordings };
    request(store("readwrite", "sessions").put(session)).catch((error) => console.warn(`answers are not stored over a reload: ${error}`));
  };
  if (document.hidden) write();
  else timer ??= setTimeout(() => write(), 300);
}

addEventListener("visibilitychange", () => { if (document.hidden) write?.(); });

/** Recordings without sound from a JSON download, or from JSON lines of `nlm infer`. Throws an Error in plain words. */
export function fromJson(name, content) {
  let rows;
  try {
    rows = content.trimStart().startsWith("[") ? JSON.parse(content) : content.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
  } catch {
    throw new Error(`${name} is not JSON: answers downloaded here, or the lines of nlm infer, are expected.`);
  }
  const recordings = new Map(), runs = new Map();
  for (const [i, row] of rows.entries()) {
    const right = typeof row?.file === "string" && Number.isFinite(row.start) && row.end > row.start - 1e-9 && typeof row.query === "string";
    if (!right) throw new Error(`${name}: answer ${i + 1} has no file, start, end or query; answers downloaded here, or the lines of nlm infer, are expected.`);
    const file = row.file.split(/[\\/]/).at(-1);
    if (!recordings.has(row.file)) recordings.set(row.file, new Recording({ name: file, seconds: Number(row.seconds) || 0 }));
    const recording = recordings.get(row.file), kind = ["regions", "windows", "marks"].includes(row.kind) ? row.kind : "windows", key = `${row.file}\n${row.run ?? ""}\n${kind}\n${row.query}`;
    if (!row.seconds) recording.seconds = Math.max(recording.seconds, row.end);
    if (!runs.has(key)) runs.set(key, recording.add({ kind, query: row.query, window: Number(row.window) || null, hop: Number(row.hop) || null }));
    const run = runs.get(key), fields = Object.fromEntries(Object.entries(FIELDS).filter(([field, type]) => typeof row[field] === type).map(([field]) => [field, row[field]]));
    if (row.settings && typeof row.settings === "object") { fields.settings = { ...row.settings }; run.config ??= { ...row.settings }; }
    for (const field of ["earlier", "others"]) if (Array.isArray(row[field])) fields[field] = row[field];
    run.rows.push({ length: row.end - row.start, ...fields, saved: true });
  }
  if (!recordings.size) throw new Error(`${name} holds no answers.`);
  return [...recordings.values()];
}

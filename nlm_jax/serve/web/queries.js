// Queries about a region, about every window, about all recordings; every answer is stored with the recording of its query.
import { clip } from "./audio.js";
import { $, band, decoding, fault, grid, question, SHORTEST, well } from "./form.js";
import { fill, Job, provenance } from "./job.js";
import { spans } from "./labels.js";
import { text } from "./recording.js";
import { server } from "./server.js";
import { changed, changedNow, state } from "./state.js";
import { seconds } from "./times.js";

/** One region or several in one question. `region`: {recording, start, end}. */
export async function askRegion(region) {
  const query = question(), config = query && decoding(), frequencies = config && band();
  if (!frequencies) return;
  well("clips");
  const parts = state.clips.length ? [...state.clips] : [region];
  if (parts.length > server.clips) return fault("clips", `This server takes ${server.clips} regions in one question at most; remove some.`);
  await converse(parts, query, config, { ...(state.clips.length ? {} : frequencies) });
}

/** A further question about what `row` of `recording` was about. */
export async function askOn(recording, row) {
  const query = question("follow-query"), config = query && decoding();
  if (!config) return;
  const rest = (row.others ?? []).map((other) => ({ ...other, recording: state.recordings.find((one) => one.id === other.id) }));
  const lost = rest.find((other) => !other.recording);
  if (lost) return fault("follow-query", `${lost.file} is not open any more; open it and ask anew.`);
  const earlier = [...(row.earlier ?? []), { query: row.query, prediction: text(row) }], { low, high } = row;
  $("follow-query").value = "";
  await converse([{ recording, start: row.start, end: row.end }, ...rest], query, config, { earlier, ...(high ? { low, high } : {}) });
}

const MOST_WINDOWS = 20_000; // of one recording in one run
let last = null;

async function converse(parts, query, config, extra) {
  const [{ recording, start }] = parts, controller = new AbortController(), { signal } = controller, box = $("answer");
  const cut = parts.map((part) => ({ ...part, end: Math.min(part.end, part.start + server.seconds) })), [{ end }] = cut;
  const others = cut.slice(1).map((part) => ({ id: part.recording.id, file: part.recording.name, start: part.start, end: part.end }));
  const row = { start, end, length: Math.max(end - start, SHORTEST), query, ...extra, ...(others.length ? { others } : {}) };
  begin({ stop: () => controller.abort() });
  last = null;
  conversation(recording, row, cut);
  box.textContent = $("facts").textContent = "";
  box.classList.remove("failed");
  box.setAttribute("aria-busy", "true");
  try {
    const facts = provenance(config), clips = [];
    for (const part of cut) clips.push(await clip(await part.recording.load(), part.start, Math.max(part.end, part.start + SHORTEST)));
    const messages = (row.earlier ?? []).flatMap((turn) => [{ role: "user", content: turn.query }, { role: "assistant", content: turn.prediction }]);
    const done = await server.ask([...messages, { role: "user", content: query }], clips, config, {
      signal,
      onText: (words) => { box.textContent = words; $("facts").textContent = ""; },
      onWait: (ahead) => { $("facts").textContent = ahead > 1 ? `${ahead} questions are waiting …` : ahead === null ? "The server is busy; trying again …" : "Listening …"; },
    });
    fill(row, done, facts);
    box.textContent = done.text || "(an empty answer)";
    $("facts").textContent = [`${done.latency_sec.toFixed(1)} s`, row.tokens && `${row.tokens} tokens`, row.cut && "cut at the longest answer"].filter(Boolean).join(" · ");
    const run = recording.regions(query);
    run.rows.push(row);
    last = { recording, row };
    if (state.current === recording) state.shown = run.id;
  } catch (error) {
    box.classList.add("failed");
    box.textContent = signal.aborted ? "Stopped." : error.message;
    $("facts").textContent = "";
  }
  box.setAttribute("aria-busy", "false");
  finish();
}

/** The answer that a further question would be about: {recording, row}, or null. */
export const lastAnswer = () => last;

function conversation(recording, row, parts) {
  $("answer-card").hidden = false;
  const where = parts.map((part) => `${part.recording.name} ${seconds(part.start)} – ${seconds(part.end)}`).join("; ");
  $("asked").textContent = `${row.query} (${where})`;
  $("turns").replaceChildren(...(row.earlier ?? []).map(({ query, prediction }) => {
    const item = document.createElement("li"), answer = document.createElement("b");
    answer.textContent = answer.title = prediction;
    item.append(`${query} `, answer);
    return item;
  }));
  $("turns").hidden = !row.earlier;
}

function begin(work) {
  state.work = work;
  changedNow();
}

function finish() {
  state.work = null;
  changedNow();
}

// ---- many windows ----

/** The same question about every window of each of `recordings`. */
export async function askWindows(recordings) {
  const query = question(), config = query && decoding(), cells = config && grid();
  if (!cells) return;
  let stopped = false;
  begin({ stop: () => { stopped = true; } });
  const entries = [], empty = [];
  for (const [i, recording] of recordings.entries()) {
    progress({ text: recordings.length > 1 ? `Reading ${recording.name}, ${i + 1} of ${recordings.length} …` : "Reading …" });
    const run = recording.add({ kind: "windows", query, config, ...cells });
    try {
      await recording.load();
      if (recording.seconds / cells.hop > MOST_WINDOWS) throw new Error(`${recording.name} would be ${Math.ceil(recording.seconds / cells.hop)} windows, more than ${MOST_WINDOWS}; take a longer hop.`);
      for (const [start, end] of spans(recording.seconds, cells.window, cells.hop)) {
        run.rows.push({ start, end: Math.min(end, recording.seconds), length: cells.window, query });
      }
      entries.push(...run.rows.map((row) => ({ recording, row, config })));
    } catch (error) {
      run.rows.push({ start: 0, end: recording.seconds, length: cells.window, query, error: error.message });
      empty.push(error.message);
    }
    if (state.current === recording) state.shown = run.id;
    if (stopped) break;
  }
  await work(stopped ? [] : entries, empty.length ? ` ${empty.join(" ")}` : "");
}

/** One question about every region that a label file marked on `recording`. */
export async function askMarks(recording) {
  const query = question(), config = query && decoding();
  if (!config) return;
  const run = recording.add({ kind: "marks", query, config });
  run.rows = recording.marks.map(({ start, end, text: mark, low, high }) => {
    const last = Math.min(end, start + server.seconds);
    return { start, end: last, length: Math.max(last - start, SHORTEST), query, mark, ...(high ? { low, high } : {}) };
  });
  if (state.current === recording) state.shown = run.id;
  await work(run.rows.map((row) => ({ recording, row, config })), "");
}

/** Asks rows again that failed or were not asked, [[run, rows]], with the settings of their run. */
export async function askAgain(recording, lacking) {
  if (state.work || !server.able) return;
  const current = decoding();
  if (!current) return;
  const entries = lacking.flatMap(([run, rows]) => rows.map((row) => ({ recording, row, config: run.config ?? current })));
  for (const { row } of entries) delete row.error;
  await work(entries, "");
}

async function work(entries, note) {
  const job = new Job(entries, () => { report(job); changed(); });
  begin(job);
  await job.run();
  finish();
  const left = job.total - job.done;
  if (!job.total) return progress({ text: `Nothing was asked.${note}` });
  progress({ text: [`${job.answered} of ${job.total} windows answered`, job.failed && `${job.failed} failed`, left && `${left} not asked`].filter(Boolean).join(", ") + "." + note });
}

function report(job) {
  const { done, total, paused, left } = job;
  let words = done ? `${done} of ${total} windows` : `Listening to ${total === 1 ? "the window" : `the first of ${total} windows`} …`;
  if (left !== null && total - done > 0 && !paused) words += `, ${duration(left)} left`;
  if (paused) words = `${done} of ${total} windows so far. ${paused} The rest waits and goes on by itself when the server is back.`;
  progress({ text: words, share: done / total, paused: Boolean(paused) });
}

const duration = (s) => (s < 5 ? "a few seconds" : s < 90 ? `about ${Math.round(s / 5) * 5} s` : s < 5400 ? `about ${Math.round(s / 60)} min` : `about ${(s / 3600).toFixed(1)} h`);

function progress({ text: words, share = null, paused = false }) {
  $("progress").hidden = share === null;
  $("progress").value = share ?? 0;
  $("progress-text").textContent = words;
  $("progress-text").classList.toggle("paused", paused);
  $("continue").hidden = !paused;
}

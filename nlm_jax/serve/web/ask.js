// Questions to the server: `POST /ask` answers with a line of JSON for each piece of text.
const pause = (ms, signal) => new Promise((done, fail) => {
  const timer = setTimeout(done, ms);
  signal?.addEventListener("abort", () => { clearTimeout(timer); fail(signal.reason); }, { once: true });
});

/**
 * Asks, and tells `onText(all text so far)` and `onWait(questions in the queue)`. Returns the last line of the answer.
 * A full queue is tried again for as long as `signal` lets it. Throws an Error in plain words.
 */
export async function ask(query, wav, config, { signal, onText = () => {}, onWait = () => {} } = {}) {
  const body = JSON.stringify({
    messages: [{ role: "user", content: query }],
    audio_inputs: [{ payload_type: "base64_wav", data: wav, sample_rate: 16000 }],
    generation_config: config,
  });
  for (let tries = 0; ; tries++) {
    let response;
    try {
      response = await fetch("ask", { method: "POST", body, signal, headers: { "Content-Type": "application/json" } });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Error("The server cannot be reached. Is it still running?");
    }
    if (response.status === 503 && tries < 60) {
      const found = await response.json().catch(() => ({}));
      if (/could not be loaded|shutting down/.test(found.error ?? "")) throw new Error(sentence(found.error));
      onWait(null);
      await pause(1000 * Number(response.headers.get("Retry-After") || 1) * (1 + Math.random()), signal);
      continue;
    }
    if (!response.ok) {
      const found = await response.json().catch(() => ({}));
      throw new Error(sentence(found.error ?? `The server answered with status ${response.status}.`));
    }
    return await read(response, onText, onWait);
  }
}

async function read(response, onText, onWait) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("The server broke off in the middle of its answer.");
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.map((l) => JSON.parse(l))) {
      if (line.error !== undefined) throw new Error(sentence(line.error));
      if (line.done) return line;
      if (line.waiting !== undefined) onWait(line.waiting);
      if (line.text !== undefined) onText((text += line.text));
    }
  }
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

/** What `GET /info` says; null where there is no server. */
export async function info() {
  try {
    return await (await fetch("info")).json();
  } catch {
    return null;
  }
}

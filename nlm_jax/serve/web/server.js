// The server: how it is, and questions to it. `POST /ask` answers with a line of JSON for each piece of text.
const DEFAULT_SECONDS = 10; // of a clip, if the server does not say
const SILENCE = 120_000; // ms without a byte, after which a server is away; it sends a line every ten seconds

const pause = (ms, signal) => new Promise((done, fail) => {
  const timer = setTimeout(done, ms);
  signal?.addEventListener("abort", () => { clearTimeout(timer); fail(signal.reason); }, { once: true });
});
const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");

/** The server cannot be reached, or went away: the question is still to be asked. */
export class Away extends Error {}

/** A connection, aborted by `signal` or after a timeout without data. */
class Connection {
  #controller = new AbortController(); #timer; silent = false;

  constructor(signal) {
    signal?.addEventListener("abort", () => this.#controller.abort(signal.reason), { signal: this.#controller.signal });
    if (signal?.aborted) this.#controller.abort(signal.reason);
    this.alive();
  }

  get signal() { return this.#controller.signal; }

  alive() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => { this.silent = true; this.#controller.abort(); }, SILENCE);
  }

  end() { clearTimeout(this.#timer); }
}

class Server {
  info = null; status = "connecting"; #listeners = []; #timer; #checking = null;

  get able() { return this.status === "ready"; }

  /** Seconds of sound that one clip holds. */
  get seconds() { return this.info?.audio_clip_seconds ?? DEFAULT_SECONDS; }

  get clips() { return this.info?.max_clips ?? 8; }

  /** Tokens of the longest answer that it gives. */
  get tokens() { return this.info?.max_new_tokens ?? 2000; }

  get facts() { return { model: this.info?.model ?? "", revision: this.info?.model_revision ?? "" }; }

  onChange(listener) { this.#listeners.push(listener); }

  /** Asks the server how it is, now, and again after a while. */
  check() { return (this.#checking ??= this.#check().finally(() => { this.#checking = null; })); }

  async #check() {
    clearTimeout(this.#timer);
    let status = null;
    try {
      const response = await fetch("info", { cache: "no-store", signal: AbortSignal.timeout(8000) });
      if (response.ok) status = await response.json();
    } catch { /* no server */ }
    if (status) this.info = status;
    this.#turn(status ? status.load_status ?? "ready" : "away");
    this.#timer = setTimeout(() => this.check(), this.status === "ready" ? 5000 : 1500);
    return this.able;
  }

  /** A question did not get through. */
  lost() { this.#turn("away"); this.check(); }

  #turn(status) {
    this.status = status;
    for (const listener of this.#listeners) listener();
  }

  /**
   * Asks, and calls `onText(all text so far)` and `onWait(questions in the queue, null: turned away for now)`.
   * Returns the last line of the answer. A full queue is tried again for as long as `signal` allows.
   *
   * Args: messages [{role, content}]; clips: base64 of WAV files; config: generation_config.
   * Throws Away, or an Error in plain words.
   */
  async ask(messages, clips, config, { signal, onText = () => {}, onWait = () => {} } = {}) {
    const audio = clips.map((data) => ({ payload_type: "base64_wav", data, sample_rate: 16000 }));
    const body = JSON.stringify({ messages, audio_inputs: audio, generation_config: config });
    for (let tries = 0; ; tries++) {
      const connection = new Connection(signal);
      let response;
      try {
        response = await fetch("ask", { method: "POST", body, signal: connection.signal, headers: { "Content-Type": "application/json" } });
        if (response.ok) return await this.#read(response, onText, onWait, connection);
      } catch (error) {
        if (signal?.aborted || error.name === "Error") throw error; // stopped, or reported already
        if (error instanceof SyntaxError) throw new Error("What came back is no answer of this server; is there another one in between?");
        this.lost();
        throw new Away(connection.silent ? "The server has said nothing for two minutes." : "The server cannot be reached. Is it still running?");
      } finally {
        connection.end();
      }
      const { error } = await response.json().catch(() => ({})), words = sentence(error ?? `The server answered with status ${response.status}`);
      if ([502, 503, 504].includes(response.status) && (!error || /could not be loaded|shutting down/.test(error))) { // of a proxy, or at its end
        this.check();
        throw new Away(words);
      }
      if (![429, 503].includes(response.status) || tries >= 60) throw new Error(words);
      onWait(null);
      await pause(1000 * (Number(response.headers.get("Retry-After")) || 1) * (1 + Math.random()), signal);
    }
  }

  async #read(response, onText, onWait, connection) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", text = "";
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        if (connection.signal.aborted) throw error;
        return { done: true };
      });
      connection.alive();
      if (done) {
        this.lost();
        throw new Away("The server broke off in the middle of its answer.");
      }
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines.map((l) => JSON.parse(l))) {
        if (line.error !== undefined) {
          if (/shutting down/.test(line.error)) throw new Away(sentence(line.error));
          throw new Error(sentence(line.error));
        }
        if (line.done) return line;
        if (line.waiting !== undefined) onWait(line.waiting);
        if (line.text !== undefined) onText((text += line.text));
      }
    }
  }
}

export const server = new Server();

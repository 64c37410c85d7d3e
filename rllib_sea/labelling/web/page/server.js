// What goes to the server, and what it tells.
const TIMEOUT_MS = 15_000;
const HIDDEN_MS = 15_000; // no answer is waited for when the next one is asked for

export async function call(path, body) {
  const response = await fetch(`api/${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers: { "Content-Type": "application/json", "X-Rllib-Sea": "1" },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const found = await response.json();
  if (!response.ok) throw Object.assign(new Error(found.message), { status: response.status });
  return found;
}

/**
 * Listens to what the run tells: by a stream while the page is in sight, else by asking now and then.
 * A browser keeps six connections to a server, for all of its tabs.
 */
export class Listener {
  constructor({ told, reached, refused }) {
    Object.assign(this, { told, reached, refused, source: null, timer: 0, on: false });
    document.addEventListener("visibilitychange", () => this.on && this.start());
  }

  start() {
    this.stop();
    this.on = true;
    if (document.hidden) {
      this.timer = setInterval(() => this.ask(), HIDDEN_MS);
      return;
    }
    this.source = new EventSource("api/events");
    this.source.addEventListener("progress", (event) => {
      this.reached(true);
      this.told(JSON.parse(event.data));
    });
    this.source.addEventListener("error", () => {
      this.reached(false);
      // A stream that ends is opened again by the browser, one that is refused is not.
      if (this.source.readyState !== EventSource.CLOSED) return;
      this.timer = setTimeout(() => this.start(), 3000);
      this.ask(); // it may say why
    });
  }

  stop() {
    this.source?.close();
    clearTimeout(this.timer); // or the interval: both are named alike
    Object.assign(this, { source: null, timer: 0, on: false });
  }

  async ask() {
    const timer = this.timer;
    let me = null;
    let error = null;
    try {
      me = await call("progress");
    } catch (failure) {
      error = failure;
    }
    // What has come since by the stream is newer.
    if (timer !== this.timer) return;
    this.reached(!error || error.status !== undefined);
    if (me) this.told(me);
    else if (error.status === 401) this.refused(error.message);
  }
}

// What goes to the server, and what it tells.
const HIDDEN_MS = 10_000;

export async function call(path, body) {
  const response = await fetch(`api/${path}`, {
    method: body === undefined ? "GET" : "POST",
    headers: { "Content-Type": "application/json", "X-Rllib-Sea": "1" },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(15_000),
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
      // A stream that ends is opened again by the browser, one that is refused is not.
      if (this.source.readyState === EventSource.CLOSED) this.timer = setTimeout(() => this.start(), 3000);
      this.reached(false);
    });
  }

  stop() {
    this.on = false;
    this.source?.close();
    clearTimeout(this.timer); // or the interval: both are named alike
  }

  async ask() {
    try {
      const me = await call("progress");
      this.reached(true);
      this.told(me);
    } catch (error) {
      this.reached(error.status !== undefined);
      if (error.status === 401) this.refused(error.message);
    }
  }
}

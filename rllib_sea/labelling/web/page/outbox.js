// Answers stay in the browser until the server has written them down.

const LONGEST_WAIT_MS = 8000;

/**
 * @param send Sends one answer; resolves to whether it is done with. Rejects, or resolves to false: again later.
 * @param changed Told whenever answers come or go, with those that came from another window.
 */
export class Outbox {
  constructor(name, send, changed) {
    this.name = name;
    this.send = send;
    this.changed = changed;
    this.memory = [];
    this.sending = null;
    this.attempt = null;
    this.timer = 0;
    this.wait = 500;
    addEventListener("storage", (event) => {
      if (event.key !== this.name) return;
      this.changed(JSON.parse(event.newValue ?? "[]"));
      this.flush(); // the other window may be closed before it has sent its answer
    });
    addEventListener("online", () => this.flush());
  }

  /** Answers that are not acknowledged, the oldest first. */
  all() {
    try {
      return JSON.parse(localStorage.getItem(this.name) ?? "[]");
    } catch {
      return this.memory; // no storage: a window that stays open loses nothing either
    }
  }

  put(answers) {
    this.memory = answers;
    try {
      localStorage.setItem(this.name, JSON.stringify(answers));
    } catch { /* see all() */ }
    this.changed([]);
  }

  add(answer) {
    this.put([...this.all(), answer]);
    this.flush();
  }

  /** Takes an answer back that nobody has heard of; returns whether that was so. */
  async takeBack(key) {
    while (this.sending?.key === key) await this.attempt.catch(() => false); // it may be heard just now
    if (!this.all().some((answer) => answer.key === key)) return false;
    this.put(this.all().filter((answer) => answer.key !== key));
    return true;
  }

  /** Sends what is there, one window at a time. The same answer sent twice counts once. */
  async flush() {
    if (this.flushing) return;
    this.flushing = true;
    clearTimeout(this.timer);
    try {
      if (navigator.locks) await navigator.locks.request(this.name, () => this.sendAll());
      else await this.sendAll();
      this.wait = 500;
    } catch {
      this.timer = setTimeout(() => this.flush(), this.wait);
      this.wait = Math.min(2 * this.wait, LONGEST_WAIT_MS);
    } finally {
      this.flushing = false;
    }
    if (this.all().length && this.wait === 500) this.flush();
  }

  async sendAll() {
    for (let first; (first = this.all()[0]);) {
      this.sending = first;
      try {
        const { key, ...answer } = first;
        this.attempt = this.send(answer);
        if (!(await this.attempt)) throw new Error("not now");
        this.put(this.all().filter((other) => other.key !== key));
      } finally {
        this.sending = null;
      }
    }
  }
}

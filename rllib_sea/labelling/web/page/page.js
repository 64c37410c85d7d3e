// The page: shows a question, takes an answer, has the next one there already.
import { Outbox } from "./outbox.js";
import { Listener, call } from "./server.js";
import { differences, elements, showPrompt, showResponse } from "./texts.js";

const AHEAD = 4;
const RENEW_MS = 60_000;
const REFRESH_MS = 2000;
const NAMES = { left: "A is better", right: "B is better", tie: "Tie", both_bad: "Both bad", skip: "Skipped" };
const $ = (id) => document.getElementById(id);

const state = {
  me: null, // the server's word on the rater and the run
  queue: [], // questions ahead; the first is shown
  shown: null,
  since: 0, // when it came into sight; 0 while the page is hidden
  seconds: 0, // that it was in sight before that
  done: new Set(), // answered, as far as this page knows
  history: [], // answers of this window, to be taken back
  withDifferences: false,
  withMarkdown: localStorage.getItem("rllib-sea markdown") === "on",
  filledAt: 0,
  refused: "", // why there is no page for whoever looks at it
  reached: true,
};
let outbox = null;
const listener = new Listener({ told: update, reached, refused: stop });

// -- The server ---------------------------------------------------------------------------------

/** Sends an answer; true once it is written down, or can never be. */
async function send(answer) {
  try {
    const { status, message } = await call("answer", answer);
    reached(true);
    if (status === "late" || status === "withdrawn") say(message, 6000);
    return true;
  } catch (error) {
    reached(error.status !== undefined);
    if ([404, 409, 413, 422].includes(error.status)) {
      say(`Not taken: ${error.message}`, 8000);
      return true;
    }
    if (error.status === 503) say(error.message, 6000);
    return false;
  }
}

let filling = false;

/** Has questions ready before they are wanted. */
async function fill() {
  if (filling || !outbox) return;
  filling = true;
  try {
    const mine = await call("next", { count: AHEAD });
    reached(true);
    state.filledAt = performance.now();
    const unsent = new Set(outbox.all().map((answer) => answer.question));
    const fresh = mine.filter((question) => !state.done.has(question.id) && !unsent.has(question.id));
    const reopened = state.queue.filter((question) => question.answered);
    const gone = state.shown && !state.shown.answered && !mine.some((question) => question.id === state.shown.id);
    if (gone && !unsent.has(state.shown.id) && !state.done.has(state.shown.id)) say("The question before was withdrawn", 4000);
    const first = fresh.filter((question) => question.id === state.shown?.id && !state.shown.answered);
    state.queue = [...reopened, ...first, ...fresh.filter((question) => !first.includes(question))];
    if (state.withMarkdown) state.queue.forEach(readMarkdown);
    show();
  } catch (error) {
    reached(error.status !== undefined);
    if (error.status === 401) stop(error.message);
  } finally {
    filling = false;
  }
}

function update(me) {
  const before = state.me;
  if (before && before.log !== me.log) return location.reload();
  state.me = me;
  if (before && me.learned_round !== before.learned_round && me.learned_mine) {
    const answers = me.learned_mine === 1 ? "one of your answers" : `${me.learned_mine} of your answers`;
    say(`Round ${me.learned_round + 1} has learned from ${answers}`, 6000);
  }
  if (before && me.news && me.news !== before.news) say(me.news, 8000);
  outbox.flush();
  // Also if there is enough: what was answered in another window, or withdrawn, is wanted no more.
  // Out of sight only if there is nothing: questions that nobody looks at are left to others.
  const few = document.hidden ? !state.queue.length : state.queue.length < AHEAD || performance.now() - state.filledAt > REFRESH_MS;
  if (me.phase === "asking" && few) fill();
  show();
}

function reached(whether) {
  if (state.reached && !whether) say("No connection: your answers are kept here until it is back", 5000);
  state.reached = whether;
  showCounts();
}

// -- Answers ------------------------------------------------------------------------------------

function answer(choice, extra = {}) {
  const question = state.shown;
  if (!question) return;
  const given = {
    key: crypto.getRandomValues(new Uint32Array(2)).join("-"),
    question: question.id,
    choice,
    correction: Boolean(question.answered),
    seconds: Math.round(inSight() * 100) / 100,
    ...extra,
  };
  state.done.add(question.id);
  state.history.push({ question, key: given.key });
  state.queue = state.queue.filter((other) => other !== question);
  outbox.add(given);
  say(`${NAMES[choice]}${extra.strength ? ", clearly" : ""}`, 1600);
  show();
  if (state.queue.length < AHEAD - 1) fill();
}

async function undo() {
  const last = state.history.pop();
  if (last && (await outbox.takeBack(last.key))) {
    reopen(last.question);
    return;
  }
  try {
    reopen(await call("undo", { question: last?.question.id ?? null }));
  } catch (error) {
    if (last && error.status === undefined) state.history.push(last);
    say(error.status === undefined ? "No connection: the answer can be taken back later" : error.message, 5000);
  }
}

function reopen(question) {
  state.done.delete(question.id);
  state.queue = [question, ...state.queue.filter((other) => other.id !== question.id)];
  show();
}

/** Marks texts that go on below what is in sight. */
function markMore() {
  for (const place of document.querySelectorAll("#question .text")) {
    place.classList.toggle("more", place.scrollHeight - place.clientHeight - place.scrollTop > 4);
  }
}

function inSight() {
  return state.seconds + (state.since ? (performance.now() - state.since) / 1000 : 0);
}

// -- What is seen -------------------------------------------------------------------------------

function show() {
  const unsent = new Set(outbox?.all().map((answer) => answer.question));
  state.queue = state.queue.filter((question) => question.answered || !unsent.has(question.id));
  const next = state.queue[0] ?? null;
  const changes = next?.id !== state.shown?.id || next?.answered !== state.shown?.answered;
  if (changes) {
    state.shown = next;
    state.seconds = 0;
    state.since = next && !document.hidden ? performance.now() : 0;
    state.withDifferences = false;
  } else state.shown = next;
  $("question").hidden = !next;
  $("waiting").hidden = Boolean(next);
  if (changes && next) showQuestion(next);
  if (!next) showWaiting();
  else document.body.dataset.state = "asking";
  showCounts();
}

function showQuestion(question) {
  showTexts(question);
  $("before").hidden = !question.answered;
  $("before").textContent = question.answered ? `You have said: ${NAMES[question.answered]}. That stays unless you answer again.` : "";
  markMore();
  $("question").classList.remove("new");
  void $("question").offsetWidth; // so that it is animated again
  $("question").classList.add("new");
  if (matchMedia("(max-width: 46rem)").matches) scrollTo(0, 0);
}

const trees = new Map(); // Markdown of questions, once it has come

/** Shows a question's texts: as they are, or their Markdown as soon as it is there. */
async function showTexts(question) {
  const found = () => (state.withMarkdown ? trees.get(question.id) : undefined);
  showPrompt($("prompt"), question.prompt, found()?.prompt);
  showResponses(question, found());
  document.querySelector("[data-do=markdown]").setAttribute("aria-pressed", String(state.withMarkdown));
  if (!state.withMarkdown || found()) return;
  await readMarkdown(question);
  if (found() && state.shown?.id === question.id) showTexts(question);
}

async function readMarkdown(question) {
  if (trees.has(question.id)) return;
  try {
    trees.set(question.id, await call("markdown", { question: question.id }));
    if (trees.size > 4 * AHEAD) trees.delete(trees.keys().next().value);
  } catch { /* then it stays as it is */ }
}

function showResponses(question, read) {
  const parts = state.withDifferences ? differences(question.left, question.right) : null;
  if (state.withDifferences && !parts) {
    say("These texts are too long to be compared word by word", 4000);
    state.withDifferences = false;
  }
  showResponse($("left"), question.left, parts?.[0], read?.left);
  showResponse($("right"), question.right, parts?.[1], read?.right);
  markMore();
  document.querySelector("[data-do=differences]").setAttribute("aria-pressed", String(state.withDifferences));
}

const WAITING = {
  loading: ["One moment", ""],
  starting: ["The run is getting ready", "The first questions come by themselves, in a minute or a few."],
  learning: ["All answered, thank you", "The run is learning from your answers.\nThe next questions come by themselves."],
  done: ["That was the last one, thank you", "The run has all the answers that it asks for."],
  away: ["All answered, thank you", "A run that goes on learns from them, and asks the next ones."],
  closed: ["The run has stopped, or has ended", "All that you answered is kept. If it goes on, this page does, too."],
  others: ["Nothing for you just now", "The last questions are before others. What they leave comes to you."],
  unreached: ["No connection to the run", "This page tries again by itself. What you answered is kept here until it is back."],
};

function showWaiting() {
  const me = state.me;
  let name = !me ? "loading" : me.phase === "asking" ? "others" : me.phase;
  if (name === "learning" && me.round === null) name = "starting";
  if (me && !state.reached && name !== "done" && name !== "closed") name = "unreached";
  document.body.dataset.state = state.refused ? "refused" : name;
  const [title, text] = state.refused ? ["This link does not open the page", state.refused] : WAITING[name];
  $("waiting-title").textContent = title;
  $("waiting-text").textContent = me?.news && name === "learning" ? `${text}\n\n${me.news}` : text;
  $("waiting-undo").hidden = !me?.mine || ["closed", "starting", "unreached"].includes(name);
}

function showCounts() {
  const me = state.me;
  document.title = `${state.shown ? "\u25cf " : ""}Which is better? ${document.querySelector(".name").textContent}`;
  if (!me) return;
  const total = me.budget ?? me.answered + me.open;
  $("bar").max = Math.max(1, total);
  $("bar").value = me.answered;
  const round = me.round === null ? "" : ` \u00b7 round ${me.round + 1}: ${me.round_open} of ${me.round_questions} left`;
  $("counts").textContent = `${me.answered} of ${total} answered${round}`;
  const unsent = outbox.all().length;
  const mine = me.mine + new Set(outbox.all().filter((given) => !given.correction).map((given) => given.question)).size;
  $("mine").textContent = `${me.rater}: ${me.mine_today + mine - me.mine} today, ${mine} in all`;
  const connection = !state.reached
    ? `no connection${unsent ? `: ${unsent} kept here` : ""}`
    : unsent ? "saving" : "all saved";
  $("connection").textContent = connection;
  $("connection").classList.toggle("unsent", !state.reached);
  if (!state.shown) showWaiting();
}

let silence = 0;

function say(text, forMs) {
  $("said").textContent = text;
  $("said").classList.add("shown");
  clearTimeout(silence);
  silence = setTimeout(() => $("said").classList.remove("shown"), forMs);
}

// -- Keys and buttons ---------------------------------------------------------------------------

const DO = {
  left: (event) => answer("left", event.shiftKey ? { strength: 2 } : {}),
  right: (event) => answer("right", event.shiftKey ? { strength: 2 } : {}),
  tie: () => answer("tie"),
  both_bad: () => answer("both_bad"),
  undo,
  skip: () => state.shown && ($("reason").value = "", $("skip").showModal()),
  help: () => $("help").showModal(),
  close: () => $("skip").close(""),
  differences: () => {
    if (!state.shown) return;
    state.withDifferences = !state.withDifferences;
    showTexts(state.shown);
  },
  markdown: () => {
    state.withMarkdown = !state.withMarkdown;
    localStorage.setItem("rllib-sea markdown", state.withMarkdown ? "on" : "off");
    if (state.shown) showTexts(state.shown);
  },
};
// By the key's place too: with Shift, 1 and 2 are other characters.
const KEYS = { Digit1: "left", Digit2: "right", Numpad1: "left", Numpad2: "right" };
const CHARACTERS = { 1: "left", 2: "right", 0: "tie", t: "tie", b: "both_bad", s: "skip", u: "undo", d: "differences", m: "markdown", "?": "help" };

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) DO[button.dataset.do](event);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if ($("skip").open) {
    if (event.target.id === "reason") return;
    const button = $("skip").querySelectorAll(".reasons button")[Number(event.key) - 1];
    if (button) { event.preventDefault(); button.click(); }
    return;
  }
  if ($("help").open) {
    if (event.key === "?") $("help").close();
    return;
  }
  const what = CHARACTERS[event.key.toLowerCase()] ?? (event.shiftKey ? KEYS[event.code] : undefined);
  if (!what) return;
  event.preventDefault();
  DO[what](event);
});
$("skip").addEventListener("close", () => {
  const own = $("reason").value.trim();
  const reason = $("skip").returnValue === "own" ? own || "no reason given" : $("skip").returnValue;
  if (reason) answer("skip", { reason });
  $("skip").returnValue = "";
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) [state.seconds, state.since] = [inSight(), 0];
  else if (state.shown) state.since = performance.now();
});

document.addEventListener("scroll", markMore, { capture: true, passive: true });
addEventListener("resize", markMore);

// -- The beginning ------------------------------------------------------------------------------

function stop(message) {
  Object.assign(state, { refused: message, me: null, queue: [] });
  listener.stop();
  show();
}

async function start() {
  const token = decodeURIComponent(location.hash.slice(1));
  try {
    if (token) {
      state.me = await call("session", { token });
      history.replaceState(null, "", location.pathname); // so that nobody reads it over a shoulder
    } else state.me = await call("progress");
  } catch (error) {
    if (error.status === 401) return stop(error.message);
    $("waiting-text").textContent = error.status ? error.message : WAITING.unreached[1];
    setTimeout(start, 2000);
    return;
  }
  outbox = new Outbox(`rllib-sea ${state.me.log} ${state.me.rater}`, send, (elsewhere) => {
    for (const given of elsewhere) {
      state.done.add(given.question);
      state.queue = state.queue.filter((question) => question.id !== given.question);
    }
    show();
  });
  // What is sent only now may still be among the questions that come next.
  for (const given of outbox.all()) state.done.add(given.question);
  outbox.flush();
  listener.start();
  await fill();
  show();
  setInterval(() => !document.hidden && state.me?.phase === "asking" && fill(), RENEW_MS);
  const { tree } = await call("rubric").catch(() => ({ tree: [] }));
  $("rubric").replaceChildren(...elements(tree));
  $("rubric").hidden = !tree.length;
}

addEventListener("hashchange", () => location.hash.length > 1 && location.reload());
start();

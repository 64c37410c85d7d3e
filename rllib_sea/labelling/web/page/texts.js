// What is shown of texts. Nothing here reads HTML: texts are text, elements are made one by one.

const MOST_PAIRS = 4e6; // of words that are compared

const ELEMENTS = new Set(["p", "ul", "ol", "li", "blockquote", "strong", "em", "s", "a", "table", "thead", "tbody", "tr", "th",
  "td", "hr", "pre", "code", "h3", "h4", "h5", "h6"]);

/** Elements of a tree that the server has read from Markdown. */
export function elements(tree) {
  return tree.map((node) => {
    if (typeof node === "string" || !ELEMENTS.has(node.name)) return document.createTextNode(typeof node === "string" ? node : "");
    const made = document.createElement(node.name);
    if (node.name === "a") {
      made.href = node.href;
      made.rel = "noopener noreferrer";
      made.target = "_blank";
    }
    made.append(...elements(node.children));
    return made;
  });
}

/** Fills a place with a response: words that are marked stand in `<mark>`, or a tree of its Markdown. */
export function showResponse(place, text, parts, tree) {
  place.classList.toggle("markdown", Boolean(tree && text.trim() && !parts));
  if (!text.trim()) {
    const empty = document.createElement("span");
    empty.className = "empty";
    empty.textContent = "(empty)";
    place.replaceChildren(empty);
  } else if (parts) {
    place.replaceChildren(...parts.map(([words, marked]) => {
      if (!marked) return document.createTextNode(words);
      const made = document.createElement("mark");
      made.textContent = words;
      return made;
    }));
  } else if (tree) place.replaceChildren(...elements(tree));
  else place.textContent = text;
  place.scrollTop = 0;
}

const NAMES = { system: "System", user: "User", assistant: "Assistant" };

/** Fills a place with a prompt; a conversation has the names of those who speak. Trees: of Markdown, per turn. */
export function showPrompt(place, turns, trees) {
  place.replaceChildren(...turns.map((turn, i) => {
    const made = document.createElement("div");
    made.className = "turn";
    made.dir = "auto";
    if (turns.length > 1) {
      const name = document.createElement("h3");
      name.textContent = NAMES[turn.role] ?? turn.role;
      made.append(name);
    }
    const text = document.createElement("div");
    text.classList.toggle("markdown", Boolean(trees));
    text.append(...(trees ? elements(trees[i]) : [turn.content]));
    made.append(text);
    return made;
  }));
  place.scrollTop = turns.length > 1 ? place.scrollHeight : 0;
}

/** The words of two texts, with those marked that the other lacks; null if they are too many. */
export function differences(one, other) {
  const [a, b] = [words(one), words(other)];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const [m, n] = [a.length - start - end, b.length - start - end];
  if (m * n > MOST_PAIRS) return null;
  // Longest common subsequence of what is between, from its end.
  const length = Array.from({ length: m + 1 }, () => new Uint16Array(n + 1));
  for (let i = m - 1; i >= 0; i--) {
    for (let j = n - 1; j >= 0; j--) {
      length[i][j] = a[start + i] === b[start + j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
    }
  }
  const [inA, inB] = [new Set(), new Set()];
  for (let i = 0, j = 0; i < m || j < n;) {
    if (i < m && j < n && a[start + i] === b[start + j]) { i++; j++; }
    else if (j === n || (i < m && length[i + 1][j] >= length[i][j + 1])) inA.add(start + i++);
    else inB.add(start + j++);
  }
  return [marked(one, inA), marked(other, inB)];
}

function words(text) {
  return text.match(/\S+/g) ?? [];
}

/** A text in parts `[text, whether it is marked]`; neighbours of one kind are one. */
function marked(text, places) {
  const parts = [];
  let place = 0;
  for (const piece of text.match(/\S+|\s+/g) ?? []) {
    const isWord = /\S/.test(piece);
    const mark = isWord && places.has(place);
    const between = !isWord && places.has(place - 1) && places.has(place);
    if (isWord) place++;
    const last = parts.at(-1);
    if (last && last[1] === (mark || between)) last[0] += piece;
    else parts.push([piece, mark || between]);
  }
  return parts;
}

// What came of an act, shown in a corner and said to readers of the screen. Texts are never taken for HTML.
const SHOWN_MS = 8000;

export function say(text, tone = "good", link = null) {
  const box = document.createElement("div");
  box.className = `message tone-${tone}`;
  const words = document.createElement("p");
  words.textContent = text;
  if (link) words.append(" ", anchor(link));
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "✕";
  close.setAttribute("aria-label", "Close the message");
  close.addEventListener("click", () => box.remove());
  box.append(words, close);
  document.getElementById("messages").append(box);
  if (tone === "good") setTimeout(() => box.remove(), SHOWN_MS);
}

export function sayProblem(problem, status) {
  const text = problem?.detail || problem?.title || `The server answered ${status}.`;
  say(text, "bad", problem?.code ? { href: `${document.body.dataset.console}errors/${problem.code}`, text: "What to do" } : null);
}

function anchor({ href, text }) {
  const link = document.createElement("a");
  link.href = href;
  link.textContent = text;
  return link;
}

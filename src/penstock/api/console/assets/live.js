// Live parts of a page: loaded again every few seconds while somebody looks, and moments that say how long ago.
const TICK_MS = 1000;
const REACHED = "a[href], button, input, select, summary, [tabindex]";
const UNITS = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];

export function startLive() {
  const due = new Map();
  showMoments(document);
  setInterval(() => {
    showMoments(document);
    if (document.hidden) return;
    for (const part of document.querySelectorAll("[data-every]")) {
      const left = (due.get(part.id) ?? Number(part.dataset.every)) - 1;
      due.set(part.id, left > 0 ? left : Number(part.dataset.every));
      // Not under a hand: what is typed, selected or asked would be lost.
      if (left <= 0 && !document.querySelector("dialog[open]") && !part.querySelector("input:focus, textarea:focus, select:focus") && !isSelected(part))
        window.htmx?.trigger(part, "refresh");
    }
  }, TICK_MS);
  document.addEventListener("visibilitychange", () => due.clear());
  document.addEventListener("htmx:beforeSwap", (event) => (focused = placeOf(document.activeElement, event.target) ?? focused));
  document.addEventListener("htmx:afterSettle", () => {
    showMoments(document);
    focusAgain();
  });
}

// Where the keyboard was in a part that is replaced: on what does the same, or else on what is at the same place.
let focused = null;

function placeOf(element, part) {
  if (!part?.contains?.(element) || element === part) return null;
  const all = [...part.querySelectorAll(REACHED)];
  return { part: part.id, at: all.indexOf(element), same: all.filter((one) => doing(one) === doing(element)).indexOf(element), does: doing(element) };
}

function focusAgain() {
  const part = focused && document.getElementById(focused.part);
  if (part && document.activeElement === document.body) {
    const all = [...part.querySelectorAll(REACHED)];
    const found = all.filter((one) => doing(one) === focused.does)[focused.same] ?? all[Math.min(focused.at, all.length - 1)];
    found?.focus({ preventScroll: true });
  }
  focused = null;
}

function doing(element) {
  return element.dataset.act ?? element.getAttribute("href") ?? element.value ?? element.textContent;
}

function isSelected(part) {
  const selection = getSelection();
  return !selection.isCollapsed && part.contains(selection.anchorNode);
}

function showMoments(root) {
  for (const time of root.querySelectorAll("time[data-ago]")) {
    const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
    const text = seconds < 0 ? `in ${ago(-seconds)}` : `${ago(seconds)} ago`;
    if (time.textContent !== text) time.textContent = text;
  }
}

function ago(seconds) {
  if (seconds < 1) return "0 s";
  const [unit, length] = UNITS.find(([, s]) => seconds >= s);
  return `${Math.floor(seconds / length)} ${unit}`;
}

// Live parts of a page: loaded again every few seconds while somebody looks, and moments that say how long ago.
const TICK_MS = 1000;
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
      if (left <= 0 && !document.querySelector("dialog[open]") && !part.querySelector("input:focus, textarea:focus, select:focus"))
        window.htmx?.trigger(part, "refresh");
    }
  }, TICK_MS);
  document.addEventListener("visibilitychange", () => due.clear());
  document.addEventListener("htmx:afterSettle", () => showMoments(document));
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

// The keyboard: `/` finds, `j` and `k` walk through rows, Enter opens, `x` selects, `g` and a letter go, `?` helps.
import { switchTheme } from "./theme.js";

const GO_WITHIN_MS = 1500;
let goUntil = 0;
let currentLink = null;

export function startKeys() {
  document.querySelector(".places a[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }); // on a phone
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || document.querySelector("dialog[open]")) return;
    const did = Date.now() < goUntil ? go(event.key) : press(event.key);
    if (did) event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-close]")) event.target.closest("dialog").close();
    const row = event.target.closest("tr[data-link]");
    if (row && !event.target.closest("a, button, input, label, summary") && !String(getSelection())) location.href = row.dataset.link;
  });
  document.addEventListener("htmx:afterSettle", () => {
    if (currentLink) mark(rows().find((row) => row.dataset.link === currentLink));
  });
}

const DO = {
  "/": () => focusOn(document.getElementById("find")),
  "?": () => document.getElementById("shortcuts")?.showModal(),
  j: () => walk(1),
  k: () => walk(-1),
  t: () => switchTheme(),
  x: () => current()?.querySelector('input[type="checkbox"]')?.click(),
  g: () => (goUntil = Date.now() + GO_WITHIN_MS),
  Enter: () => document.activeElement === document.body || document.activeElement.matches("main") ? open() : false,
};

function press(key) {
  const act = DO[key];
  return act ? act() !== false : false;
}

function go(letter) {
  goUntil = 0;
  const link = document.querySelector(`.places a[data-letter="${CSS.escape(letter)}"]`);
  if (link) location.href = link.href;
  return Boolean(link);
}

function open() {
  const row = current();
  if (!row) return false;
  location.href = row.dataset.link;
  return true;
}

function walk(step) {
  const all = rows();
  if (!all.length) return false;
  const at = all.indexOf(current());
  const next = all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.max(0, Math.min(all.length - 1, at + step))];
  mark(next);
  next.scrollIntoView({ block: "nearest" });
  next.querySelector("a")?.focus({ preventScroll: true });
  return true;
}

function mark(row) {
  current()?.classList.remove("current");
  row?.classList.add("current");
  currentLink = row?.dataset.link ?? null;
}

const rows = () => [...document.querySelectorAll("main tr[data-link]")];
const current = () => document.querySelector("main tr.current");

function focusOn(field) {
  field?.focus();
  field?.select();
}

function isTyping(element) {
  return element.matches?.("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]");
}

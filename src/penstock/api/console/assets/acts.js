// Buttons and forms with `data-act`: ask, send to the API with the session of the page, say what came of it.
import { asMember, fetched } from "./files.js";
import { confirmed } from "./confirm.js";
import { say, sayProblem } from "./messages.js";

const MOST_ROUNDS = 1000; // of an act on all that match: each hits up to a thousand

export function startActs() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-act]");
    if (button) act(button);
  });
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-act]")) return;
    event.preventDefault();
    act(event.target, () => bodyOf(event.target));
  });
}

// Sends one request to the API; returns its answer, or null after it has said what went wrong.
export async function send(link, { method = "POST", body } = {}) {
  const headers = { "X-Act-Token": document.body.dataset.actToken };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(link, { method, headers, body: JSON.stringify(body) });
  } catch {
    say("The server cannot be reached.", "bad");
    return null;
  }
  const text = await answer.text();
  const said = text && answer.headers.get("content-type")?.includes("json") ? JSON.parse(text) : {};
  if (answer.ok) return said;
  if (answer.status === 401) location.href = `${document.body.dataset.console}login`;
  sayProblem(said, answer.status);
  return null;
}

async function act(source, read = async () => undefined) {
  const { act: link, method, counted, confirm, confirmText, done = "Done" } = source.dataset;
  const pressed = source.matches("form") ? source.querySelector('[type="submit"]') : source;
  if (pressed.hasAttribute("aria-busy")) return;
  if (confirm && !(await confirmed({ title: confirm, text: confirmText, count: counted ? () => countOf(link) : null, isDanger: source.matches(".danger") }))) return;
  pressed.setAttribute("aria-busy", "true"); // and not disabled, which would take it from under the keyboard
  const body = await read(); // busy from here on: large files are uploaded by it
  const said = body === null ? null : counted ? await sendUntilAll(link) : await send(link, { method, body });
  pressed.removeAttribute("aria-busy");
  if (said === null) return;
  if (source.dataset.then) {
    location.href = filled(source.dataset.then, said);
    return;
  }
  say(filled(done, said));
  source.dispatchEvent(new CustomEvent("acted", { bubbles: true, detail: said }));
}

// How many an act would hit: the routes look at the newest ones first, and say where they stopped.
async function* countOf(link) {
  let matched = 0;
  let cursor = null;
  do {
    const said = await send(withQuery(link, { dry_run: "true", cursor }));
    if (said === null) return;
    matched += said.matched;
    cursor = said.next_cursor ?? null;
    yield { matched, more: cursor !== null || (said.has_more && !("next_cursor" in said)) };
  } while (cursor !== null);
}

async function sendUntilAll(link) {
  const total = {};
  let cursor = null;
  for (let round = 0; round < MOST_ROUNDS; round += 1) {
    const said = await send(withQuery(link, { cursor }));
    if (said === null) return null;
    for (const [name, value] of Object.entries(said)) if (typeof value === "number") total[name] = (total[name] ?? 0) + value;
    if (!said.has_more) return total;
    cursor = said.next_cursor ?? null;
  }
  return total;
}

function withQuery(link, values) {
  const url = new URL(link, location.href);
  for (const [name, value] of Object.entries(values)) if (value !== null) url.searchParams.set(name, value);
  return url.pathname + url.search;
}

function filled(text, said) {
  return text.replace(/\{([a-z_.]+)\}/g, (_, path) => path.split(".").reduce((value, name) => value?.[name], said) ?? "");
}

const READ = {
  number: (field) => Number(field.value),
  json: (field) => JSON.parse(field.value),
  list: (field) => field.value.split(/[\s,]+/).filter(Boolean),
  yes: (field) => field.checked,
  no: (field) => !field.checked,
  file: async (field, member) => {
    const file = field.files[0] ?? (field.dataset.link ? await fetched(field.dataset.link, field.name.split(".").pop()) : null);
    return file && member(file);
  },
};
const SENT_EMPTY = ["yes", "no", "file"];

// The fields of a form as JSON: a name with dots is a member of a member; an empty field is left out. It is null after
// it has said what is wrong with a field. `member` makes of a file what is sent.
export async function bodyOf(form, member = asMember) {
  const body = {};
  for (const field of form.elements) {
    const { type } = field.dataset;
    if (!field.name || field.disabled || (!field.value && !SENT_EMPTY.includes(type))) continue;
    if (type === "words") {
      if (field.checked) put(body, field.name, [...(at(body, field.name) ?? []), field.value]);
      continue;
    }
    if ((field.type === "checkbox" || field.type === "radio") && !field.checked && !SENT_EMPTY.includes(type)) continue;
    try {
      const value = await (READ[type] ?? ((given) => given.value))(field, member);
      if (value === null && type === "file" && (field.required || field.dataset.link)) return null;
      if (value !== null) put(body, field.name, value);
    } catch (error) {
      say(`${field.labels?.[0]?.querySelector("span")?.textContent ?? field.name}: ${error.message}`, "bad");
      field.focus();
      return null;
    }
  }
  return body;
}

function at(body, name) {
  return name.split(".").reduce((value, part) => value?.[part], body);
}

function put(body, name, value) {
  const parts = name.split(".");
  const last = parts.pop();
  parts.reduce((inner, part) => (inner[part] ??= {}), body)[last] = value;
}

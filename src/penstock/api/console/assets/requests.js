// The form of a task as a request that one can copy: files are read from the directory in which it is run.
import { copyText } from "./copy.js";
import { bodyOf } from "./acts.js";

export function startRequests() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy-request]");
    if (!button) return;
    const body = await bodyOf(button.form, (file) => ({ file: file.name }));
    if (body !== null) copyText(AS[button.dataset.copyRequest](body, button.dataset.url), button);
  });
}

const AS = { curl: asCurl, python: asPython };

function asCurl(body, url) {
  const text = JSON.stringify(body, (_, value) => (value?.file ? `@${value.file}@` : value));
  const quoted = `'${text.replaceAll("'", "'\\''")}'`;
  const filled = quoted.replace(/@([^@"]+)@/g, (_, name) => `data:;base64,'"$(base64 -w0 ${shell(name)})"'`);
  return `curl -sS ${url}/v1/tasks -H "Authorization: Bearer $PENSTOCK_API_KEY" --json ${filled}`;
}

function shell(name) {
  return `'${name.replaceAll("'", "'\\''")}'`;
}

function asPython({ model, input, ...options }, url) {
  const given = Object.entries(options).map(([name, value]) => `, ${name}=${literal(value)}`);
  const files = Object.values(input ?? {}).some((value) => value?.file);
  return [
    ...(files ? ["from pathlib import Path", ""] : []),
    "from penstock import Client",
    "",
    `with Client(${literal(url)}) as penstock:  # its key: PENSTOCK_API_KEY`,
    `    task = penstock.run(model=${literal(model)}, inputs=${literal(input ?? {})}${given.join("")})`,
    "    print(task.task_id, task.status)",
  ].join("\n");
}

function literal(value) {
  if (value === null || value === undefined) return "None";
  if (value === true || value === false) return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (value.file) return `Path(${JSON.stringify(value.file)})`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${literal(one)}`).join(", ")}}`;
  return JSON.stringify(value);
}

// Rows that are chosen, and acts on each of them in turn.
import { send } from "./acts.js";
import { confirmed } from "./confirm.js";
import { say } from "./messages.js";

const chosen = new Set(); // ids: the boxes are replaced when the table is loaded again

export function startChosen() {
  document.addEventListener("change", (event) => {
    if (event.target.matches('input[name="chosen"]')) choose([event.target]);
    if (event.target.matches("[data-choose-all]")) {
      for (const box of boxes()) box.checked = event.target.checked;
      choose(boxes());
    }
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-each]");
    if (button) actOnEach(button);
  });
  document.addEventListener("htmx:afterSettle", () => {
    for (const box of boxes()) box.checked = chosen.has(box.value);
    show();
  });
}

const boxes = () => [...document.querySelectorAll('input[name="chosen"]')];

function choose(changed) {
  for (const box of changed) box.checked ? chosen.add(box.value) : chosen.delete(box.value);
  show();
}

function show() {
  const bar = document.querySelector("[data-chosen]");
  if (!bar) return;
  bar.hidden = chosen.size === 0;
  bar.querySelector("[data-chosen-count]").textContent = `${chosen.size} chosen`;
  bar.querySelector("[data-choose-all]").checked = boxes().length > 0 && boxes().every((box) => box.checked);
}

async function actOnEach(button) {
  const ids = [...chosen];
  const name = button.textContent;
  const tasks = ids.length === 1 ? "1 task" : `${ids.length} tasks`;
  if (!(await confirmed({ title: `${name} ${tasks}?`, text: button.dataset.means, isDanger: button.matches(".danger") }))) return;
  const method = button.dataset.each.includes("/ID/") ? "POST" : "DELETE";
  let done = 0;
  for (const id of ids) {
    button.textContent = `${name} ${done} / ${ids.length}`;
    if ((await send(button.dataset.each.replace("/ID", `/${id}`), { method })) !== null) done += 1;
  }
  button.textContent = name;
  chosen.clear();
  say(`${done} of ${ids.length} ${button.dataset.word}`, done === ids.length ? "good" : "warn");
  document.body.dispatchEvent(new CustomEvent("acted", { bubbles: true }));
}

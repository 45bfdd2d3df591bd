// The question before an act. With a count it says how many would be hit, which grows while the server looks.
const dialog = () => document.getElementById("confirm");
const part = (name) => document.getElementById(`confirm-${name}`);

export function confirmed({ title, text = "", count = null, isDanger = false }) {
  part("title").textContent = title;
  part("text").textContent = text;
  part("count").textContent = "";
  part("yes").textContent = title.split(" ")[0]; // "Delete 3 tasks?" is answered by "Delete"
  part("yes").className = `button ${isDanger ? "danger" : "primary"}`;
  part("yes").disabled = count !== null;
  dialog().showModal();
  part("no").focus();
  if (count) showCount(count());
  return new Promise((resolve) => {
    const end = (answer) => {
      dialog().close();
      resolve(answer);
    };
    part("yes").onclick = () => end(true);
    part("no").onclick = () => end(false);
    dialog().oncancel = () => resolve(false);
  });
}

async function showCount(counts) {
  part("count").textContent = "Counting …";
  let last = { matched: 0, more: false };
  for await (const found of counts) {
    if (!dialog().open) return;
    last = found;
    part("count").textContent = `${found.matched.toLocaleString()}${found.more ? " and more" : ""} so far`;
    part("yes").disabled = found.matched === 0;
  }
  const tasks = last.matched === 1 ? "task" : "tasks";
  part("count").textContent = last.matched ? `${last.matched.toLocaleString()}${last.more ? " and more" : ""} ${tasks}` : "No task matches.";
}

// Fields for a file on which one may drop it; a picture is shown before it is sent.
export function startDrops() {
  for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, dragged);
  document.addEventListener("change", (event) => {
    const drop = event.target.closest(".drop");
    if (drop) show(drop, event.target.files[0]);
  });
}

function dragged(event) {
  const drop = event.target.closest?.(".drop");
  if (!drop) return;
  event.preventDefault();
  drop.classList.toggle("over", event.type === "dragover");
  if (event.type !== "drop" || !event.dataTransfer.files.length) return;
  const field = drop.querySelector("input");
  field.files = event.dataTransfer.files;
  show(drop, field.files[0]);
}

function show(drop, file) {
  const [name, picture] = [drop.querySelector("[data-drop-name]"), drop.querySelector("img")];
  if (picture.src) URL.revokeObjectURL(picture.src);
  name.textContent = file ? `${file.name}, ${Math.ceil(file.size / 1000)} KB` : "";
  picture.hidden = !file?.type.startsWith("image/");
  if (picture.hidden) picture.removeAttribute("src");
  else picture.src = URL.createObjectURL(file);
}

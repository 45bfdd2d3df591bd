// A picture over another, of which a slider shows as much as one likes.
export function startComparing() {
  const set = (figure) => figure.style.setProperty("--shown", `${figure.querySelector("input").value}%`);
  document.addEventListener("input", (event) => {
    const figure = event.target.closest("[data-compare]");
    if (figure) set(figure);
  });
}

// The text of a key that was just made: it is in the answer of the act alone, and on the page until one leaves it.
export function startSecrets() {
  document.addEventListener("acted", (event) => {
    const box = document.querySelector("[data-secret]");
    const key = event.detail?.key;
    if (!box || !key) return;
    box.querySelector("[data-secret-text]").textContent = key;
    box.querySelector("[data-copy]").dataset.copy = key;
    box.hidden = false;
    box.scrollIntoView({ block: "center" });
  });
}

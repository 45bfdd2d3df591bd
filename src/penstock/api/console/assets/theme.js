// Light, dark, or as the system says; kept in a cookie, so that the server sends the page in the right colours.


export function startTheme() {
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-theme-switch]")) switchTheme();
  });
}

export function switchTheme() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const shown = root.dataset.theme || (dark ? "dark" : "light");
  const theme = shown === "dark" ? "light" : "dark"; // the first press always changes something
  root.dataset.theme = theme;
  document.querySelector('meta[name="color-scheme"]').content = theme;
  const path = new URL(document.body.dataset.console, location.href).pathname.replace(/\/$/, "");
  document.cookie = `penstock_theme=${theme}; path=${path}; max-age=31536000; samesite=strict`;
  document.dispatchEvent(new CustomEvent("themed"));
}

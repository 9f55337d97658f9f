// Light or dark: as the system prefers, unless chosen here.

const CHOICE = "facemargin-theme";
const preference = matchMedia("(prefers-color-scheme: dark)");

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : preference.matches;
}

export function toggleTheme() {
  const next = isDark() ? "light" : "dark";
  const asPreferred = (next === "dark") === preference.matches;
  // A choice that equals the system's is no choice: the page then follows the system again.
  document.documentElement.dataset.theme = asPreferred ? "" : next;
  if (asPreferred) localStorage.removeItem(CHOICE);
  else localStorage.setItem(CHOICE, next);
}

export const onThemeChange = (listener) => preference.addEventListener("change", listener);

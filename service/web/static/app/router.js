// Where in the page one is, by the address after #: #/verify, #/gallery/COLLECTION/SUBJECT.

/** {tab, rest}: rest are the decoded parts after the tab. A misspelt address gives the first tab. */
export function route(tabs) {
  const [tab, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  return tabs.includes(tab) ? { tab, rest: rest.filter(Boolean) } : { tab: tabs[0], rest: [] };
}

export const hashOf = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;

/** Go there; where one already is, that is shown anew. */
export function go(...parts) {
  if (location.hash === hashOf(...parts)) dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = hashOf(...parts);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

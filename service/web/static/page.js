// The page: signing in, and which section is shown.

import { api, session } from "./api.js";
import { element, find } from "./elements.js";
import { startGallery } from "./gallery.js";
import { startIdentify } from "./identify.js";
import { startVerify } from "./verify.js";

const SECTIONS = ["verify", "identify", "gallery"];
let signedIn = false;
let gallery = null;

function show() {
  const asked = location.hash.slice(1);
  const chosen = SECTIONS.includes(asked) ? asked : "verify";
  find("#sign-in").hidden = signedIn;
  find(".tabs").hidden = !signedIn;
  find("#sign-out").hidden = !signedIn;
  for (const name of SECTIONS) find(`#${name}`).hidden = !signedIn || name !== chosen;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.hash === `#${chosen}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (signedIn && chosen === "gallery") gallery.load();
  if (!signedIn) find("#key").focus();
}

async function enter() {
  const model = await api.model();
  const { collections } = await api.collections();
  for (const select of document.querySelectorAll("[data-collections]")) {
    select.replaceChildren(...collections.map(({ id, name }) => element("option", { value: id }, name)));
    select.value = "default";
  }
  find("#model").textContent = `${model.model} · ${model.detector}`;
  if (!gallery) {
    startVerify();
    startIdentify();
    gallery = startGallery();
  }
  signedIn = true;
}

async function signIn(event) {
  event.preventDefault();
  const complaint = find("#sign-in-problem");
  complaint.hidden = true;
  session.key = find("#key").value.trim();
  try {
    await enter();
    find("#key").value = "";
  } catch (error) {
    session.forget();
    complaint.textContent = error.status === 401 ? "This key is not known." : error.message;
    complaint.hidden = false;
  }
  show();
}

find("#sign-in-form").addEventListener("submit", signIn);
find("#sign-out").addEventListener("click", () => { session.forget(); location.reload(); });
addEventListener("hashchange", show);
if (session.key) {
  try {
    await enter();
  } catch (error) {
    // A key that is wrong is forgotten; while the server is away or loading it is kept.
    if (error.status === 401) session.forget();
    find("#sign-in-problem").textContent = error.message;
    find("#sign-in-problem").hidden = false;
  }
}
show();

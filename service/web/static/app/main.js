// The page: its frame, who is signed in, and which tab is shown.

import { dialogs } from "../parts/dialogs.js";
import { element } from "../parts/elements.js";
import { imagesOf } from "../parts/files.js";
import { icon, mark } from "../parts/icons.js";
import { ActivityTab } from "../tabs/activity.js";
import { GalleryTab } from "../tabs/gallery.js";
import { IdentifyTab } from "../tabs/identify.js";
import { StatusTab } from "../tabs/status.js";
import { VerifyTab } from "../tabs/verify.js";
import { words } from "../words/en.js";
import { announcer } from "./announce.js";
import { api } from "./api.js";
import { KEY_REFUSED } from "./http.js";
import { go, route } from "./router.js";
import { session } from "./session.js";
import { SignIn } from "./sign_in.js";
import { TabList, panelOf } from "./tab_list.js";
import { isDark, onThemeChange, toggleTheme } from "./theme.js";

const TABS = { verify: VerifyTab, identify: IdentifyTab, gallery: GalleryTab, activity: ActivityTab, status: StatusTab };
const NAMES = Object.keys(TABS);

let tabs = {};
let shown = null;
const panels = Object.fromEntries(NAMES.map((name) => [name, panelOf(name)]));
const tabList = new TabList(NAMES, (name) => go(name));
const signIn = new SignIn(enter);
const main = element("main", { id: "main", tabindex: "-1" }, signIn.element, ...Object.values(panels));
const who = element("span", { class: "who muted small" });
const signOut = element("button",
  { type: "button", class: "quiet icon-button", id: "sign-out", title: words.signOut, onclick: leave },
  icon("signOut"), element("span", { class: "visually-hidden" }, words.signOut));
const themeButton = element("button", { type: "button", class: "quiet icon-button", id: "theme",
  onclick: () => { toggleTheme(); showTheme(); } });

function frame() {
  document.body.replaceChildren(
    element("a", { class: "skip", href: "#main", onclick: skip }, words.skip),
    element("header", { class: "bar" },
      element("a", { class: "brand", href: "#/verify" }, mark(28), element("span", {}, words.product)),
      element("nav", { class: "sections", "aria-label": words.tabs.label }, tabList.element),
      element("div", { class: "bar-end" }, who, themeButton, signOut)),
    main, dialogs(), announcer());
}

function skip(event) {
  event.preventDefault();
  main.focus();
}

/** Sign in with a key, "" for a server without keys. Throws Problem. */
async function enter(key) {
  session.key = key;
  try {
    const [self, model] = [await api.self(), await api.model()];
    session.who = self;
    tabs = Object.fromEntries(NAMES.map((name) => [name, new TABS[name](panels[name], model)]));
  } catch (error) {
    // A key that is wrong is forgotten; while the server is away or still loading it is kept.
    if (error.status === 401 || error.status === 403) session.forget();
    throw error;
  }
  const byForm = !signIn.element.hidden;
  signIn.hide();
  show();
  if (byForm) main.focus(); // the form's focus is gone with it
}

function leave() {
  session.forget();
  close();
  signIn.show();
}

function close() {
  if (shown) tabs[shown].hidden?.();
  shown = null;
  tabs = {};
  for (const panel of Object.values(panels)) {
    panel.hidden = true;
    panel.replaceChildren();
  }
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  showFrame();
}

function showFrame() {
  const signedIn = session.who !== null;
  tabList.element.hidden = signOut.hidden = who.hidden = !signedIn;
  who.textContent = signedIn ? words.who(session.who.name, session.who.role) : "";
  document.title = signedIn ? words.title(words.tabs[shown]) : words.title(words.signIn.title);
}

function show() {
  if (!session.who) return;
  const { tab, rest } = route(NAMES);
  if (shown && shown !== tab) tabs[shown].hidden?.();
  const arrived = shown !== tab;
  shown = tab;
  for (const name of NAMES) panels[name].hidden = name !== tab;
  tabList.select(tab);
  showFrame();
  tabs[tab].shown(rest);
  if (arrived) scrollTo(0, 0);
}

function showTheme() {
  const label = isDark() ? words.theme.light : words.theme.dark;
  themeButton.title = label;
  themeButton.replaceChildren(icon(isDark() ? "sun" : "moon"), element("span", { class: "visually-hidden" }, label));
}

/** Photos pasted, or dropped beside a place for them, go to the tab that is shown. */
function take(transfer) {
  const images = imagesOf(transfer);
  if (images.length && shown) tabs[shown].given?.(images);
  return images.length > 0;
}

async function start() {
  frame();
  showTheme();
  showFrame();
  addEventListener("hashchange", show);
  addEventListener(KEY_REFUSED, ({ detail }) => { leave(); signIn.show(detail); });
  addEventListener("paste", (event) => { if (take(event.clipboardData)) event.preventDefault(); });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer); });
  onThemeChange(showTheme);
  if (session.key === null) signIn.show();
  else await signIn.attempt(session.key);
}

await start();

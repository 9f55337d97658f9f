// What is shown where there is nothing yet.

import { element } from "./elements.js";
import { icon } from "./icons.js";

export const empty = (pictogram, title, about, ...actions) => element("div", { class: "empty" },
  icon(pictogram), element("strong", {}, title), element("p", { class: "muted" }, about), ...actions);

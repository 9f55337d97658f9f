// A place to drop photos on, or to choose them by.

import { element } from "./elements.js";
import { photoInput, takeDrops } from "./files.js";
import { icon } from "./icons.js";

/** take(files): called with at least one photo. */
export function dropZone({ title, hint, multiple = false, small = false, take }) {
  const zone = element("label", { class: `drop${small ? " small" : ""}` },
    photoInput(title, multiple, take),
    element("span", { class: "invite" },
      icon("photo"), element("strong", {}, title), element("span", { class: "muted small" }, hint)));
  takeDrops(zone, take);
  return zone;
}

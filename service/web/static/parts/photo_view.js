// A photo as the server sees it: upright, with what was found drawn over it.

import { words } from "../words/en.js";
import { element } from "./elements.js";
import { overlay } from "./overlay.js";

const LARGEST_SIDE = 1600; // pixels; more than a screen shows of it

export class PhotoView {
  #file = null;
  #size = null;
  #frame = null;
  #overlay = null;
  element = element("div", { class: "photo-view" });

  /** Show a photo. One that the browser cannot decode is named only. */
  async show(file) {
    this.#file = file;
    const shown = await draw(file);
    if (this.#file !== file) return; // another one came meanwhile
    this.#overlay = null;
    this.#size = shown && shown.size;
    this.#frame = shown && element("div", { class: "photo-frame", "--shape": shown.size.width / shown.size.height }, shown.canvas);
    this.element.replaceChildren(
      this.#frame ?? element("p", { class: "muted photo-unseen" }, words.photo.unseen(file.name)));
  }

  /** Draw faces over the photo: see overlay(). */
  mark(faces) {
    this.#overlay?.remove();
    if (!this.#frame) return;
    this.#overlay = overlay(this.#size.width, this.#size.height, faces);
    this.#frame.append(this.#overlay);
  }

  set busy(value) { this.element.classList.toggle("busy", value); }
}

/** {canvas, size}: size is the photo's own. The browser turns it upright as the server does, so boxes fit. */
async function draw(file) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return null;
  const size = { width: bitmap.width, height: bitmap.height };
  const scale = Math.min(1, LARGEST_SIDE / Math.max(size.width, size.height));
  const canvas = element("canvas", {
    role: "img", "aria-label": file.name,
    width: Math.round(size.width * scale), height: Math.round(size.height * scale),
  });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return { canvas, size };
}

// A place for a photo: dropped, chosen or pasted; then drawn with boxes over its faces.

import { element } from "./elements.js";

const LARGEST_SIDE = 1400;

export class PhotoSlot {
  #drop;
  #canvas = null;
  #bitmap = null;

  constructor(place, { title, hint, multiple = false, onPhotos }) {
    const input = element("input", { type: "file", accept: "image/*,.heic,.heif", multiple, "aria-label": title });
    this.#drop = element("label", { class: "drop" },
      input,
      element("span", { class: "invite" }, element("strong", {}, title), element("span", { class: "muted small" }, hint)));
    const take = (files) => { if (files.length) onPhotos([...files]); };
    input.addEventListener("change", () => { take(input.files); input.value = ""; });
    this.#drop.addEventListener("dragover", (event) => { event.preventDefault(); this.#drop.classList.add("over"); });
    this.#drop.addEventListener("dragleave", () => this.#drop.classList.remove("over"));
    this.#drop.addEventListener("drop", (event) => {
      event.preventDefault();
      this.#drop.classList.remove("over");
      take(event.dataTransfer.files);
    });
    place.append(this.#drop);
  }

  set busy(value) { this.#drop.classList.toggle("busy", value); }

  async show(file) {
    this.#bitmap?.close();
    // The browser applies the EXIF orientation, as the server does, so that boxes fit.
    this.#bitmap = await createImageBitmap(file).catch(() => null);
    this.#canvas?.remove();
    this.#canvas = this.#bitmap
      ? element("canvas", { role: "img", "aria-label": file.name })
      : element("p", { class: "muted" }, `${file.name} (this browser cannot show it)`);
    this.#drop.prepend(this.#canvas);
    this.#drop.classList.add("filled");
    this.mark([]);
  }

  /** Draw the photo and over it boxes: {box, tone: "yes" | "no" | "plain", label}. */
  mark(boxes) {
    if (!this.#bitmap) return;
    const scale = Math.min(1, LARGEST_SIDE / Math.max(this.#bitmap.width, this.#bitmap.height));
    const canvas = this.#canvas;
    canvas.width = Math.round(this.#bitmap.width * scale);
    canvas.height = Math.round(this.#bitmap.height * scale);
    const pen = canvas.getContext("2d");
    pen.drawImage(this.#bitmap, 0, 0, canvas.width, canvas.height);
    for (const { box, tone, label } of boxes) drawBox(pen, box, scale, tone, label);
  }
}

const TONES = { yes: "#27c08a", no: "#ff6b4d", plain: "#ffffff" };
const SIZE = 11; // of a label, in 1/400 of the photo's longer side

function drawBox(pen, box, scale, tone, label) {
  // The canvas is shown smaller than it is, so lines are drawn in proportion to it.
  const unit = Math.max(pen.canvas.width, pen.canvas.height) / 400;
  const [x, y, width, height] = [box.x, box.y, box.width, box.height].map((value) => value * scale);
  pen.lineWidth = 3.6 * unit;
  pen.strokeStyle = "rgb(0 0 0 / 45%)";
  pen.strokeRect(x, y, width, height);
  pen.lineWidth = 2 * unit;
  pen.strokeStyle = TONES[tone];
  pen.strokeRect(x, y, width, height);
  if (!label) return;
  pen.font = `600 ${SIZE * unit}px system-ui, sans-serif`;
  const padding = 3.5 * unit;
  const wide = pen.measureText(label).width + 2 * padding;
  const tall = SIZE * unit + 2 * padding;
  const left = Math.max(0, Math.min(x, pen.canvas.width - wide));
  const top = y - tall > 0 ? y - tall : Math.min(y + height, pen.canvas.height - tall);
  pen.fillStyle = TONES[tone];
  pen.beginPath();
  pen.roundRect(left, top, wide, tall, 3 * unit);
  pen.fill();
  pen.fillStyle = "#0b1512";
  pen.textBaseline = "middle";
  pen.fillText(label, left + padding, top + tall / 2);
}

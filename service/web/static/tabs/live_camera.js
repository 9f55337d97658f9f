// The camera: frames go to Identify at a bounded rate, and the answers are drawn over the moving picture.

import { api } from "../app/api.js";
import { Problem, problemBox } from "../app/problem.js";
import { element } from "../parts/elements.js";
import { figure } from "../parts/format.js";
import { icon } from "../parts/icons.js";
import { overlay } from "../parts/overlay.js";
import { words } from "../words/en.js";
import { answerList, marksOf } from "./identified.js";

const BETWEEN_FRAMES = 500; // milliseconds at least, from one frame's sending to the next's
const AFTER_A_PROBLEM = 3000;
const LONGEST_SIDE = 960; // pixels of a frame as it is sent
const QUALITY = 0.85;

export class LiveCamera {
  #stream = null;
  #stopped = null;
  #video = element("video", { playsinline: true, muted: true, autoplay: true });
  #frame = element("div", { class: "photo-frame live" }, this.#video);
  #overlay = null;
  #answer = element("div", { class: "answer", "aria-live": "off" });
  #pace = element("span", { class: "muted small" });
  button = element("button", { type: "button", class: "quiet camera-button", onclick: () => this.#toggle() });

  /** where(): the collection and rate to search with. */
  constructor(where) {
    this.where = where;
    this.#video.muted = true;
    this.element = element("article", { class: "card identified-photo camera", hidden: true, "aria-label": words.identify.cameraTitle },
      element("div", { class: "identified-picture" }, this.#frame),
      element("div", {}, element("div", { class: "row" }, element("h2", {}, words.identify.cameraTitle), this.#pace),
        element("p", { class: "muted small" }, words.identify.cameraAbout), this.#answer));
    this.#label(false);
  }

  stop() {
    this.#stopped?.abort();
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = this.#stopped = this.#video.srcObject = null;
    this.#overlay?.remove();
    this.#answer.replaceChildren();
    this.element.hidden = true;
    this.#label(false);
  }

  async #toggle() {
    if (this.#stopped) {
      this.stop();
      return;
    }
    const stopped = this.#stopped = new AbortController();
    this.element.hidden = false;
    this.#label(true);
    try {
      const stream = await open();
      if (stopped.signal.aborted) {
        for (const track of stream.getTracks()) track.stop();
        return;
      }
      this.#stream = this.#video.srcObject = stream;
      await this.#video.play();
      await this.#watch(stopped.signal);
    } catch (error) {
      if (stopped.signal.aborted) return;
      this.stop();
      this.element.hidden = false;
      this.#answer.replaceChildren(problemBox(error));
    }
  }

  async #watch(signal) {
    while (!signal.aborted) {
      const started = performance.now();
      const wait = document.hidden ? BETWEEN_FRAMES : await this.#look(signal);
      await new Promise((resolve) => { setTimeout(resolve, Math.max(0, wait - (performance.now() - started))); });
      if (!signal.aborted) this.#pace.textContent = words.identify.live(figure(1000 / (performance.now() - started)));
    }
  }

  /** Search one frame; answers how many milliseconds must lie between its sending and the next one's. */
  async #look(signal) {
    const frame = await capture(this.#video);
    try {
      const answer = await api.identify(frame.file, { ...this.where(), signal, patient: false });
      if (!signal.aborted) this.#show(answer, frame);
      return BETWEEN_FRAMES;
    } catch (error) {
      if (signal.aborted) return 0;
      this.#answer.replaceChildren(problemBox(error));
      return Math.max(AFTER_A_PROBLEM, 1000 * (error.retryAfter ?? 0));
    }
  }

  #show(answer, { width, height }) {
    this.#overlay?.remove();
    this.#overlay = overlay(width, height, marksOf(answer.faces));
    this.#frame.append(this.#overlay);
    this.#answer.replaceChildren(...(answer.faces.length ? answerList(answer)
      : [element("p", { class: "muted" }, words.identify.nobodyLive)]));
  }

  #label(on) {
    this.button.replaceChildren(icon(on ? "close" : "camera"), on ? words.identify.stopCamera : words.identify.camera);
    this.button.setAttribute("aria-pressed", String(on));
  }
}

async function open() {
  if (!navigator.mediaDevices) throw new Problem(0, { code: "camera", detail: words.identify.cameraInsecure });
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, facingMode: "user" }, audio: false });
  } catch {
    throw new Problem(0, { code: "camera", detail: words.identify.cameraRefused });
  }
}

/** The picture of this moment: {file, width, height}. */
async function capture(video) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
  const canvas = element("canvas", { width: Math.round(video.videoWidth * scale), height: Math.round(video.videoHeight * scale) });
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  const file = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", QUALITY); });
  return { file, width: canvas.width, height: canvas.height };
}

// Small pictures of people: the crop of a face where one is kept, else initials.

import { api } from "../app/api.js";
import { Problem } from "../app/problem.js";
import { element } from "../parts/elements.js";
import { Pool } from "../parts/pool.js";

const AT_ONCE = 3;
const pool = new Pool(AT_ONCE);

/** A picture of a kept crop. It is fetched with the key, so it cannot be a plain address. Throws Problem. */
export async function cropPicture(collection, subject, face, alt) {
  const address = URL.createObjectURL(await pool.run(() => api.crop(collection, subject, face)));
  const picture = element("img", { src: address, alt, width: 112, height: 112 });
  const forget = () => URL.revokeObjectURL(address);
  picture.addEventListener("load", forget);
  picture.addEventListener("error", forget);
  return picture;
}

export class Portraits {
  #subjects = new WeakMap();
  #watch = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      this.#watch.unobserve(target);
      this.#fill(target, this.#subjects.get(target));
    }
  }, { rootMargin: "200px" });

  constructor(collection) { this.collection = collection; }

  /** The portrait of a subject; a crop is fetched only once it comes into sight. */
  of(subject) {
    const portrait = element("span", { class: "portrait", "aria-hidden": "true" }, initials(subject.name));
    if (subject.faces > 0) {
      this.#subjects.set(portrait, subject);
      this.#watch.observe(portrait);
    }
    return portrait;
  }

  async #fill(portrait, { subject_id: subject }) {
    try {
      const { faces: [face] } = await pool.run(() => api.faces(this.collection, subject, { limit: 1 }));
      if (face?.crop) portrait.replaceChildren(await cropPicture(this.collection, subject, face.face_id, ""));
    } catch (error) {
      // The person may be gone by now; the initials stay, and the list says the rest.
      if (!(error instanceof Problem)) throw error;
    }
  }
}

function initials(name) {
  const letters = name.split(/[\s._-]+/).filter(Boolean).map((word) => [...word][0]);
  return (letters.length > 1 ? [letters[0], letters.at(-1)] : letters).join("").toUpperCase() || "?";
}

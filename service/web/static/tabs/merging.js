// Merging: which other person takes the faces of one.

import { api } from "../app/api.js";
import { Problem, problemBox } from "../app/problem.js";
import { ask } from "../parts/dialogs.js";
import { element, field } from "../parts/elements.js";
import { Latest } from "../parts/latest.js";
import { words } from "../words/en.js";

const OFFERED = 20;
const ROWS = 6;
const text = words.person;

/** Ask into whom to merge a subject, and do it; answers the id of the one who took the faces, or null. */
export async function askMerge(collection, subject) {
  const latest = new Latest();
  const into = element("select", { size: ROWS });
  const complaint = element("div");
  const offer = () => latest.run(() => api.subjects(collection, { search: search.value.trim(), limit: OFFERED }),
    ({ subjects }) => {
      const others = subjects.filter((other) => other.subject_id !== subject.subject_id);
      into.replaceChildren(...(others.length ? others.map(option)
        : [element("option", { disabled: true, value: "" }, text.mergeNobody)]));
    },
    (error) => complaint.replaceChildren(problemBox(error)));
  const search = element("input", { type: "search", autocomplete: "off", oninput: offer });
  offer();
  const done = await ask({
    title: text.mergeTitle(subject.name), about: text.mergeAbout(subject.name), action: text.mergeAction, danger: true,
    body: [field(text.mergeSearch, search), field(text.mergeInto, into), complaint],
    act: async () => {
      if (!into.value) throw new Problem(0, { code: "nobody_chosen", detail: text.mergeChoose });
      await api.mergeSubject(collection, subject.subject_id, into.value);
    },
  });
  return done ? into.value : null;
}

const option = ({ subject_id: id, name }) => element("option", { value: id }, name === id ? id : `${name} (${id})`);

// The server's REST interface, as far as the page needs it.

import { newToken, send, sendForJson } from "./http.js";

const part = encodeURIComponent;
const collectionAt = (collection) => `/v1/collections/${part(collection)}`;
const subjectAt = (collection, subject) => `${collectionAt(collection)}/subjects/${part(subject)}`;
const faceAt = (collection, subject, face) => `${subjectAt(collection, subject)}/faces/${part(face)}`;

function photos(fields) {
  const form = new FormData();
  for (const [name, file] of fields) form.append(name, file);
  return form;
}

export const api = {
  self: () => sendForJson("GET", "/v1/keys/self"),
  model: () => sendForJson("GET", "/v1/model"),
  status: () => sendForJson("GET", "/v1/status"),

  verify: (source, target, far) => sendForJson("POST", "/v1/verify",
    { form: photos([["source", source], ["target", target]]), query: { far }, patient: true }),
  identify: (image, { collection, far, signal, patient = true }) => sendForJson("POST", "/v1/identify",
    { form: photos([["image", image]]), query: { collection, far, top_k: 3 }, patient, signal }),

  collections: () => everything((cursor) => sendForJson("GET", "/v1/collections", { query: { cursor, limit: 1000 } }),
    "collections"),
  collection: (id) => sendForJson("GET", collectionAt(id)),
  putCollection: (id, name) => sendForJson("PUT", collectionAt(id), { json: { name }, token: newToken() }),
  renameCollection: (id, name) => sendForJson("PATCH", collectionAt(id), { json: { name }, token: newToken() }),
  eraseCollection: (id) => sendForJson("DELETE", collectionAt(id), { token: newToken() }),

  subjects: (collection, { search, cursor, limit = 50 } = {}) =>
    sendForJson("GET", `${collectionAt(collection)}/subjects`, { query: { search, cursor, limit } }),
  subject: (collection, subject) => sendForJson("GET", subjectAt(collection, subject)),
  putSubject: (collection, subject, name) =>
    sendForJson("PUT", subjectAt(collection, subject), { json: { name }, token: newToken() }),
  renameSubject: (collection, subject, name) =>
    sendForJson("PATCH", subjectAt(collection, subject), { json: { name }, token: newToken() }),
  mergeSubject: (collection, subject, into) =>
    sendForJson("POST", `${subjectAt(collection, subject)}/merge`, { json: { into }, token: newToken() }),
  eraseSubject: (collection, subject) =>
    sendForJson("DELETE", subjectAt(collection, subject), { token: newToken() }),

  faces: (collection, subject, { cursor, limit = 60 } = {}) =>
    sendForJson("GET", `${subjectAt(collection, subject)}/faces`, { query: { cursor, limit } }),
  enrol: (collection, subject, image, policy) => sendForJson("POST", `${subjectAt(collection, subject)}/faces`,
    { form: photos([["image", image]]), query: { face_policy: policy }, token: newToken(), patient: true }),
  eraseFace: (collection, subject, face) =>
    sendForJson("DELETE", faceAt(collection, subject, face), { token: newToken() }),
  crop: async (collection, subject, face) => (await send("GET", `${faceAt(collection, subject, face)}/crop`,
    { patient: true })).blob(),

  jobs: () => sendForJson("GET", "/v1/jobs"),
  cancelJob: (job) => sendForJson("POST", `/v1/jobs/${job}/cancel`, { token: newToken() }),
  audit: (filters) => sendForJson("GET", "/v1/audit", { query: { limit: 50, ...filters } }),
  auditIntact: () => sendForJson("GET", "/v1/audit/verify"),
  auditExport: async () => (await send("GET", "/v1/audit/export")).blob(),
};

/** All parts of a list. */
async function everything(read, member) {
  const items = [];
  let cursor;
  do {
    const page = await read(cursor);
    items.push(...page[member]);
    cursor = page.next_cursor;
  } while (cursor);
  return items;
}

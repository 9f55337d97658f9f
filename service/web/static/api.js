// The service's REST interface, as far as the page needs it.

const STORED_KEY = "facemargin-key";

export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? `the server answered ${status}`);
    this.status = status;
    this.code = document.code ?? "unknown";
    this.document = document;
  }
}

export const session = {
  get key() { return sessionStorage.getItem(STORED_KEY); },
  set key(value) { sessionStorage.setItem(STORED_KEY, value); },
  forget() { sessionStorage.removeItem(STORED_KEY); },
};

async function call(method, path, { query = {}, form = null } = {}) {
  const parameters = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value != null));
  const address = parameters.size ? `${path}?${parameters}` : path;
  let response;
  try {
    response = await fetch(address, { method, body: form, headers: { "X-API-Key": session.key ?? "" } });
  } catch {
    throw new Problem(0, { code: "unreachable", detail: "The server cannot be reached." });
  }
  const document = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, document);
  return document;
}

function photos(fields) {
  const form = new FormData();
  for (const [name, file] of fields) form.append(name, file);
  return form;
}

const subjectsOf = (collection) => `/v1/collections/${encodeURIComponent(collection)}/subjects`;

export const api = {
  model: () => call("GET", "/v1/model"),
  verify: (source, target, far) =>
    call("POST", "/v1/verify", { form: photos([["source", source], ["target", target]]), query: { far } }),
  identify: (image, collection) =>
    call("POST", "/v1/identify", { form: photos([["image", image]]), query: { collection, top_k: 3 } }),
  collections: () => call("GET", "/v1/collections", { query: { limit: 1000 } }),
  subjects: (collection, cursor) => call("GET", subjectsOf(collection), { query: { cursor, limit: 100 } }),
  enrol: (collection, subject, image, policy) =>
    call("POST", `${subjectsOf(collection)}/${encodeURIComponent(subject)}/faces`, {
      form: photos([["image", image]]), query: { face_policy: policy },
    }),
  eraseSubject: (collection, subject) => call("DELETE", `${subjectsOf(collection)}/${encodeURIComponent(subject)}`),
};

// Requests to the server: with the key, refused ones as Problems, and a word when the key is no longer good.

import { words } from "../words/en.js";
import { Problem } from "./problem.js";
import { session } from "./session.js";

const TRIES = 4;
const LONGEST_WAIT = 10; // seconds

/** Fired on `window` with the Problem as `detail` when the server no longer knows the key. */
export const KEY_REFUSED = "facemargin-key-refused";

/**
 * Send a request; answers the Response if it went well. Throws Problem.
 * json, form: the body. token: sent as Idempotency-Key. patient: a busy server is asked again.
 */
export async function send(method, path, { query = {}, form, json, token, patient = false, signal } = {}) {
  const address = withQuery(path, query);
  const headers = { ...(session.key ? { "X-API-Key": session.key } : {}),
    ...(json ? { "Content-Type": "application/json" } : {}), ...(token ? { "Idempotency-Key": token } : {}) };
  const request = { method, headers, body: json ? JSON.stringify(json) : form, signal };
  for (let tried = 1; ; tried += 1) {
    try {
      return await once(address, request);
    } catch (error) {
      if (!patient || tried === TRIES || ![429, 503].includes(error.status)) throw error;
      await pause(Math.min(error.retryAfter ?? tried, LONGEST_WAIT));
    }
  }
}

export const sendForJson = async (...request) => (await send(...request)).json();

/** A token under which the server does a write only once. (crypto.randomUUID wants https; this does not.) */
export function newToken() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function once(address, request) {
  const response = await reach(address, request);
  if (response.ok) return response;
  const document = await response.json().catch(() => ({}));
  const problem = new Problem(response.status, document, Number(response.headers.get("Retry-After")) || null);
  if (problem.status === 401 && session.who) dispatchEvent(new CustomEvent(KEY_REFUSED, { detail: problem }));
  throw problem;
}

async function reach(address, request) {
  try {
    return await fetch(address, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { code: "unreachable", detail: words.problems.unreachable });
  }
}

function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

export const pause = (seconds) => new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });

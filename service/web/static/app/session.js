// Who uses the page: a key, kept for this browser tab only, and what the server says it allows.

const STORED = "facemargin-key";
const ROLES = ["read", "enrol", "admin"];

class Session {
  /** The server's description of the key: {id, name, role, collections, ...}; null before signing in. */
  who = null;

  /** The key; "" for a server without keys, null when nobody has signed in. */
  get key() { return sessionStorage.getItem(STORED); }

  set key(value) { sessionStorage.setItem(STORED, value); }

  forget() {
    sessionStorage.clear();
    this.who = null;
  }

  /** Whether the key may do what this role may. */
  may(role) { return this.who !== null && ROLES.indexOf(this.who.role) >= ROLES.indexOf(role); }

  /** Whether the key may create collections, rather than use those it is for. */
  get unscoped() { return this.who !== null && this.who.collections == null; }
}

export const session = new Session();

// Ids of people and collections, made from their names.

/** For the attribute `pattern`. */
export const ID_PATTERN = "[A-Za-z0-9._ \\-]{1,128}";
const LONGEST = 128;

/** "Zoë d'Arc" gives "zoe-d-arc"; a name without any Latin letter or digit gives "". */
export function slug(name) {
  return name.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase()
    .replace(/[^a-z0-9._]+/g, "-").replace(/^-+|-+$/g, "").slice(0, LONGEST);
}

/** Keep the input `id` filled from the input `name` until the user writes into it. */
export function idFrom(name, id) {
  let made = "";
  name.addEventListener("input", () => {
    if (id.value !== made && id.value !== "") return;
    made = id.value = slug(name.value);
  });
}

// Numbers, dates and sentences as people read them.

const LOCALE = document.documentElement.lang;
const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const rounded = new Intl.NumberFormat(LOCALE, { maximumSignificantDigits: 3 });
const day = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium" });
const moment = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "medium" });
const plurals = new Intl.PluralRules(LOCALE);

export const count = (value) => whole.format(value);
export const figure = (value) => rounded.format(value);
export const date = (iso) => day.format(new Date(iso));
export const dateTime = (iso) => moment.format(new Date(iso));
export const cosine = (value) => value.toFixed(3);
export const milliseconds = (value) => (value < 10 ? `${value.toFixed(1)} ms` : `${whole.format(value)} ms`);

/** `forms` by plural category of the language: {one, other}; `#` stands for the number. */
export const plural = (value, forms) => (forms[plurals.select(value)] ?? forms.other).replace("#", count(value));

/** A probability; never a certain 0% or 100%. */
export function percent(share) {
  if (share == null) return "–";
  if (share > 0.9995) return "> 99.9%";
  if (share < 0.0005) return "< 0.1%";
  return `${(100 * share).toFixed(1)}%`;
}

/** A plain share, as a whole percentage. */
export const share = (value) => `${whole.format(100 * value)}%`;

/** Seconds as "3 d 4 h", "4 h 5 min", "5 min", "6 s". */
export function duration(seconds) {
  const [days, hours, minutes] = [seconds / 86400, (seconds / 3600) % 24, (seconds / 60) % 60].map(Math.floor);
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

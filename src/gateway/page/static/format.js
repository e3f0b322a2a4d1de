// Times, numbers and names for people.

const clockFormat = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const secondsFormat = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const weekdayFormat = new Intl.DateTimeFormat('en-GB', { weekday: 'short' });
const dateFormat = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const numberFormat = new Intl.NumberFormat('en-US');
const shortFormat = new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 1 });
const costFormat = new Intl.NumberFormat('en-US', { style: 'currency', currency: 'USD' });

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A length of time in one or two units. */
export function span(ms) {
  if (ms < SECOND) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 10 * SECOND) return `${(ms / SECOND).toFixed(1)} s`;
  if (ms < 2 * MINUTE) return `${Math.round(ms / SECOND)} s`;
  if (ms < 2 * HOUR) return `${Math.round(ms / MINUTE)} min`;
  if (ms < 2 * DAY) return `${Math.floor(ms / HOUR)} h ${Math.round((ms % HOUR) / MINUTE)} min`;
  return `${Math.floor(ms / DAY)} d ${Math.round((ms % DAY) / HOUR)} h`;
}

function isSameDay(one, other) {
  return new Date(one).toDateString() === new Date(other).toDateString();
}

/** A time of day; of another day with its name or date. */
export function clock(at, now = Date.now()) {
  const time = clockFormat.format(at);
  if (isSameDay(at, now)) return time;
  const day = Math.abs(at - now) < 7 * DAY ? weekdayFormat.format(at) : dateFormat.format(at);
  return `${day} ${time}`;
}

export const seconds = (at) => secondsFormat.format(at);

/** "17:06, in 76 s" */
export function when(at, now = Date.now()) {
  return at <= now ? clock(at, now) : `${clock(at, now)}, in ${span(at - now)}`;
}

/** "until 17:06, in 76 s" */
export const until = (at, now) => `until ${when(at, now)}`;

export const number = (value) => numberFormat.format(value);
export const short = (value) => (value < 10000 ? numberFormat.format(value) : shortFormat.format(value));
export const cost = (value) => costFormat.format(value);

/** A share as in `lessor status`: a little is not nothing, and not quite all is not all. */
export function percent(share) {
  const value = Math.round(share * 100);
  if (share > 0 && value < 1) return '< 1 %';
  return `${share < 1 ? Math.min(value, 99) : value} %`;
}

/** What people call a quota, as in `lessor status`: the pool, or the model. */
export function quotaName(key) {
  const [pool, model] = (key ?? '').split(/:(.*)/s);
  if (model) return model.replace(/\*+$/, '');
  return pool === 'gemini-antigravity' ? 'antigravity' : pool;
}

/** A quota window; with its pool where an account has several. */
export function windowName(provider, window) {
  const pool = provider === 'google' ? quotaName((window.key ?? '').split(':')[0]) : '';
  return pool && pool !== window.window ? `${pool}: ${window.window}` : window.window;
}

/** What a person calls an account. */
export const nameOf = (account) => (account ? account.label || account.email || account.id : '');

/** Machine words in plain letters. */
export const words = (name) => (name || '').replaceAll('_', ' ');

/** Who holds a lease or has sent a request. */
export function holderOf(row, fallback = '') {
  const program = row.agent || row.holder?.program || row.label || fallback;
  return row.holder?.pid ? `${program || fallback} (${row.holder.pid})` : program;
}

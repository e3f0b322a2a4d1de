// The page: it reads what `lessor status` reads, and follows the events.

import { text, fill } from './strings.js';
import { ask, el, setText } from './dom.js';
import { holderOf, nameOf, seconds, windowName } from './format.js';
import { SessionEnded, Unreachable, call, follow, open } from './connection.js';
import { Samples } from './charts.js';
import { makeAccounts, makeStarts } from './accounts.js';
import { makeLeases, makeQueue } from './leases.js';
import { makeRequests } from './requests.js';
import { makeHistory } from './history.js';
import { makeEvents } from './events.js';

const REFRESH = 5000;
const REFRESH_ON_EVENT = 500;
const HISTORY_REFRESH = 60000;
/** How soon the sums follow a request that has ended. */
const HISTORY_ON_EVENT = 5000;
/** How long the result of an action is shown. */
const NOTICE = 10000;
/** The most answers that are read for the usage over time. */
const MOST_PAGES = 60;
/** The pause between two of them, in ms. */
const BETWEEN_PAGES = 100;
const WEEK = 7 * 86400000;
/** More events than this that wait for the next frame are not shown one by one. */
const MOST_WAITING = 2000;

const state = el('span', { class: 'state', role: 'status' }, text.state.connecting);
const rights = el('span', { class: 'badge' });
const banner = el('div', { class: 'banner', role: 'alert', hidden: true });
const notice = el('p', { class: 'notice', role: 'status' });
const samples = new Samples();
const act = { isAllowed: false, run };
let parts = null;
let readAt = 0;
let refreshTimer = 0;
let isRefreshing = false;
let isRefreshDue = false;
let isHistoryDue = false;
let noticeTimer = 0;
let stream = null;
let waiting = [];
let isFrameDue = false;
let hasEnded = false;

function build() {
  parts = {
    starts: makeStarts(), accounts: makeAccounts(act, samples), leases: makeLeases(act), queue: makeQueue(),
    requests: makeRequests(history), history: makeHistory(history, samples), events: makeEvents(),
  };
  const columns = el('div', { class: 'columns' }, parts.leases.element, parts.queue.element);
  document.body.replaceChildren(
    el('a', { class: 'skip', href: '#accounts' }, text.skip),
    el('header', { class: 'top' }, el('h1', {}, text.title), rights, state), notice,
    el('main', {}, banner, parts.starts.element, parts.accounts.element, columns, parts.history.element, parts.requests.element, parts.events.element));
}

const history = (params) => call('history.query', params);

/** Reads accounts, leases and queue; the next time soon, or after an event. */
async function refresh() {
  if (isRefreshing || hasEnded || document.hidden) return;
  isRefreshing = true;
  isRefreshDue = false;
  clearTimeout(refreshTimer);
  try {
    const [status, accounts, leases] = await Promise.all([call('status'), call('account.list'), call('lease.list')]);
    const now = Date.now();
    readAt = now;
    accounts.forEach((account) => sample(account.id, account.provider, account.usage));
    requestAnimationFrame(() => {
      parts.starts.update(status, now);
      parts.accounts.update(accounts, now);
      parts.leases.update(leases, accounts, now);
      parts.queue.update(status.queue, now);
      parts.history.updateQuota(accounts);
      parts.events.rate(now);
      document.documentElement.dataset.readAt = String(now);
    });
    setState('live');
  } catch (error) {
    broken(error);
  } finally {
    isRefreshing = false;
    refreshTimer = setTimeout(refresh, isRefreshDue ? REFRESH_ON_EVENT : REFRESH);
  }
}

/** Reads again after an event. More events do not put it off. */
function refreshSoon() {
  if (isRefreshDue) return;
  isRefreshDue = true;
  if (isRefreshing) return;
  clearTimeout(refreshTimer);
  refreshTimer = setTimeout(refresh, REFRESH_ON_EVENT);
}

function setState(name) {
  setText(state, text.state[name]);
  if (name === 'live' && !banner.hidden) banner.hidden = true;
}

function broken(error) {
  if (error instanceof SessionEnded) return end();
  if (document.hidden) return;
  setState('gone');
  parts.events.rate(null);
  if (error instanceof Unreachable) parts.starts.forget();
  const line = error instanceof Unreachable ? fill(text.gone, { time: readAt ? seconds(readAt) : '…' }) : error.message;
  say(line, text.goneRemedy);
}

function say(...lines) {
  if (banner.dataset.said === lines.join('\n') && !banner.hidden) return;
  banner.dataset.said = lines.join('\n');
  banner.replaceChildren(...lines.map((line) => el('p', {}, line)));
  banner.hidden = false;
}

function end() {
  hasEnded = true;
  parts.starts.forget();
  stream?.abort();
  setState('gone');
  say(text.ended, text.endedRemedy);
}

/** Carries out an action after a confirmation. `choice`: a parameter that the user chooses. */
async function run(action, name, method, params, choice = {}) {
  const answer = await ask(fill(text.actions.confirm, { action, name }), { ...choice, yes: action, no: text.actions.cancel });
  if (answer === null) return;
  if (choice.name && answer) params = { ...params, [choice.name]: answer };
  try {
    const done = await call(method, params);
    const what = method === 'lease.move' ? moved(done, name) : fill(text.actions.of, { action, name });
    notify(fill(text.done, { what }), false);
  } catch (error) {
    if (error instanceof SessionEnded) return end();
    notify(fill(text.failed, { why: error instanceof Unreachable ? text.starts.forgotten : error.message }), true);
  }
  refresh();
}

const moved = (done, name) => fill(text.moved, {
  holder: holderOf(done, name), from: nameOf(done.from), to: nameOf(done.to), when: done.at_next_request ? text.atNextRequest : '',
});

function notify(line, isBad) {
  setText(notice, line);
  notice.classList.toggle('bad', isBad);
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => setText(notice, ''), NOTICE);
}

/** Events wait for the next frame, and at most some of them. */
function arrived(events) {
  waiting.push(...events);
  if (waiting.length > MOST_WAITING) waiting = waiting.slice(-MOST_WAITING);
  if (isFrameDue) return;
  isFrameDue = true;
  setTimeout(() => requestAnimationFrame(() => {
    isFrameDue = false;
    const events = waiting;
    waiting = [];
    parts.events.add(events);
    const ended = events.filter((event) => event.kind === 'request.ended' && event.request).map((event) => event.request);
    if (ended.length > 0 && !parts.requests.isFiltered()) parts.requests.add(ended);
    if (ended.length > 0) historySoon();
    if (events.some((event) => event.kind !== 'request.ended')) refreshSoon();
  }), 200);
}

function historySoon() {
  if (isHistoryDue) return;
  isHistoryDue = true;
  setTimeout(() => {
    isHistoryDue = false;
    if (!document.hidden && !hasEnded) parts.history.reload();
  }, HISTORY_ON_EVENT);
}

function listen() {
  stream?.abort();
  if (document.hidden || hasEnded) return;
  stream = new AbortController();
  follow(stream.signal, { onOpen: reload, onEvents: arrived, onBreak: broken });
}

/** Reads everything again: after a break, events are missing. */
async function reload() {
  refresh();
  parts.history.reload();
  parts.requests.reload();
}

async function showPast() {
  try {
    const past = await history({ of: 'events', limit: 100, since: Date.now() - WEEK });
    parts.events.add(past.events.reverse());
  } catch {
    // the list begins now
  }
  parts.events.render();
}

/** Reads how the usage was, newest first. */
async function showPastUsage() {
  const since = Date.now() - WEEK;
  try {
    let before = null;
    for (let pages = 0; pages < MOST_PAGES && !hasEnded; pages += 1) {
      const past = await history({ of: 'events', kinds: ['usage.updated'], limit: 1000, since, before });
      past.events.forEach((event) => event.account && sample(event.account.id, event.provider, event.usage ?? []));
      before = past.next;
      if (!before) break;
      await new Promise((done) => setTimeout(done, BETWEEN_PAGES));
    }
  } catch {
    // the timelines begin later
  }
  parts.history.reload();
  refreshSoon();
}

function sample(account, provider, windows) {
  windows.filter((window) => !window.rate).forEach((window) =>
    samples.add(account, windowName(provider, window), window.as_of, window.utilization, window.resets_at));
}

async function begin() {
  build();
  try {
    const session = await open();
    act.isAllowed = session.actions;
    setText(rights, session.actions ? text.mayAct : text.readOnly);
    rights.classList.toggle('warn', session.actions);
  } catch (error) {
    return broken(error);
  }
  await showPast();
  listen();
  showPastUsage();
  setInterval(() => !document.hidden && !hasEnded && parts.history.reload(), HISTORY_REFRESH);
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) {
      stream?.abort();
      setState('paused');
    } else {
      setState('connecting');
      listen();
    }
  });
}

begin();

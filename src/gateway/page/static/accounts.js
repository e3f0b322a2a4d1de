// Whether an agent can start, and the accounts.

import { text, fill } from './strings.js';
import { el, meter, section, setText, show } from './dom.js';
import { clock, nameOf, percent, quotaName, until, when, windowName, words } from './format.js';
import { timeline } from './charts.js';

const TINTS = {
  ready: 'good', partly_limited: 'warn', limited: 'warn', waiting_for_token: 'warn',
  cannot_renew: 'bad', needs_login: 'bad', needs_verification: 'bad', disabled: '',
};

/** The answer to "Can an agent start now?", for each provider. */
export function makeStarts() {
  const list = el('div', { class: 'starts', 'aria-live': 'polite' });
  const warnings = el('ul', { class: 'warnings' });
  const pool = el('p', { class: 'dim' });
  const { element } = section('start', text.start, list, pool, warnings);
  return {
    element,
    /** The daemon does not answer: what held before may not hold now. */
    forget() {
      list.shown = new Map();
      list.replaceChildren(el('div', { class: 'start bad' }, el('strong', { class: 'answer' }, text.starts.forgotten)));
    },
    update(status, now) {
      const providers = status.providers ?? [];
      const items = providers.length > 0 ? providers : [null];
      const minute = Math.floor(now / 15000);
      show(list, items, (of) => of?.provider ?? '', (of) => JSON.stringify([of, of?.free_at ? minute : 0]), (of) => start(of, now));
      pool.hidden = !status.pool;
      if (status.pool) setText(pool, poolLine(status.pool));
      warnings.hidden = status.warnings.length === 0;
      show(warnings, status.warnings, (line) => line, () => '', (line) => el('li', {}, line));
    },
  };
}

/** How the pool is that this host shares with others. */
function poolLine(pool) {
  if (pool.state === 'connected') return fill(text.pool.connected, pool);
  const trouble = pool.trouble ? `; ${pool.trouble}` : '';
  return fill(text.pool.other, { state: words(pool.state) }) + trouble;
}

function start(of, now) {
  if (!of) {
    return el('div', { class: 'start warn' }, el('strong', { class: 'answer' }, text.starts.none), el('p', { class: 'dim' }, text.starts.noneRemedy));
  }
  const can = of.serving > 0;
  const free = of.grantable > 0;
  const answer = can ? (free ? text.starts.yes : text.starts.shared) : text.starts.no;
  const facts = [fill(text.starts.serving, of)];
  if (of.busy > 0) facts.push(fill(text.starts.busy, of));
  if (of.limited > 0) facts.push(fill(text.starts.limited, of));
  let line = '';
  if (can && of.next) line = fill(text.starts.on, { account: nameOf(of.next) });
  if (!can && of.free_at) line = fill(text.starts.from, { when: when(of.free_at, now), account: nameOf(of.first_free) });
  if (!can && !of.free_at) line = of.limited > 0 || of.busy > 0 ? text.starts.unknown : text.starts.needsUser;
  return el('div', { class: `start ${can ? (free ? 'good' : 'warn') : 'bad'}` },
    el('p', {}, el('strong', {}, `${of.provider}: `, el('span', { class: 'answer' }, answer)), line ? ` ${line}` : ''),
    el('p', { class: 'dim' }, facts.join(' · ')));
}

/** The accounts with their windows and limits. */
export function makeAccounts(act, samples) {
  const list = el('ul', { class: 'accounts' });
  const { element, note } = section('accounts', text.accounts, list);
  const empty = el('p', { class: 'empty' }, text.noAccounts);
  element.append(empty);
  return {
    element,
    update(accounts, now) {
      empty.hidden = accounts.length > 0;
      const counts = new Map();
      for (const account of accounts) counts.set(account.state, (counts.get(account.state) ?? 0) + 1);
      setText(note, [...counts].map(([state, count]) => `${count} ${text.states[state] ?? words(state)}`).join(' · '));
      const minute = Math.floor(now / 30000);
      show(list, accounts, (account) => account.id,
        (account) => JSON.stringify([account, account.limits.length > 0 ? minute : Math.floor(minute / 4), samples.count(account.id)]),
        (account, before) => card(account, now, act, samples, before?.querySelector('details')?.open));
    },
  };
}

function card(account, now, act, samples, isOpen) {
  const name = nameOf(account);
  const state = el('span', { class: `badge ${TINTS[account.state] ?? ''}` }, text.states[account.state] ?? words(account.state));
  const facts = [account.provider, account.plan || (account.tier !== 'unknown' && account.tier), fill(text.leasesOf, account)];
  for (const held of account.elsewhere ?? []) facts.push(fill(text.elsewhere, held));
  if (account.sharing === 'own') facts.push(text.ownAccount);
  if (account.in_flight > 0) facts.push(account.in_flight === 1 ? text.inFlightOne : fill(text.inFlight, { n: account.in_flight }));
  return el('li', { class: 'account' },
    el('div', { class: 'head' }, el('h3', {}, name), state),
    el('p', { class: 'facts' }, facts.filter(Boolean).join(' · ')),
    account.state !== 'ready' && account.state_reason ? el('p', {}, account.state_reason) : null,
    account.remedy ? el('p', { class: 'remedy' }, fill(text.remedy, { command: account.remedy })) : null,
    limits(account, now), windows(account, now), account.usage_trouble ? el('p', { class: 'dim' }, account.usage_trouble) : null,
    history(account, samples, isOpen), act.isAllowed ? buttons(account, name, act) : null);
}

function limits(account, now) {
  if (account.limits.length === 0) return null;
  return el('ul', { class: 'limits' }, account.limits.map((limit) =>
    el('li', {}, fill(text.limit, { key: quotaName(limit.key) || text.whole, reason: words(limit.reason), until: until(limit.until, now) }),
      limit.evidence ? el('span', { class: 'evidence' }, limit.evidence) : null)));
}

/** The fullest windows; what is not used is left out. */
function windows(account, now) {
  const known = account.usage.filter((window) => !window.rate);
  if (known.length === 0) return account.kind === 'oauth' ? el('p', { class: 'dim' }, text.noReading) : null;
  const used = known.filter((window) => window.utilization > 0).sort((one, other) => other.utilization - one.utilization);
  if (used.length === 0) return el('p', { class: 'dim' }, text.allUnused);
  return el('div', { class: 'windows' }, used.slice(0, 6).flatMap((window) => {
    const name = windowName(account.provider, window);
    const end = window.stale ? text.stale : window.resets_at ? fill(text.resets, { when: clock(window.resets_at, now) }) : '';
    return [
      el('span', { class: 'name' }, name),
      meter(`${nameOf(account)} ${name}`, window.utilization, percent(window.utilization)),
      el('span', { class: 'number' }, percent(window.utilization)),
      el('span', { class: 'dim' }, end),
    ];
  }));
}

function history(account, samples, isOpen) {
  if (!account.usage.some((window) => !window.rate)) return null;
  const body = el('div', {});
  const fillIn = () => body.replaceChildren(...timeline(samples.of(account.id)));
  const details = el('details', { open: isOpen, ontoggle: () => details.open && fillIn() },
    el('summary', { 'data-key': `timeline ${account.id}` }, text.timeline, el('span', { class: 'hidden' }, ` ${nameOf(account)}`)), body);
  if (isOpen) fillIn();
  return details;
}

function buttons(account, name, act) {
  const button = (action, method) => {
    const label = fill(text.actions.of, { action: text.actions[action], name });
    return el('button', { type: 'button', 'aria-label': label, 'data-key': `${action} ${account.id}`, onclick: () => act.run(text.actions[action], name, method, { account: account.id }) }, text.actions[action]);
  };
  return el('div', { class: 'actions' },
    account.state === 'disabled' ? button('enable', 'account.enable') : button('disable', 'account.disable'),
    account.limits.length > 0 ? button('clear', 'account.clear_limits') : null,
    account.kind === 'oauth' ? button('refresh', 'account.refresh') : null);
}


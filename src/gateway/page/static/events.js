// What has happened, newest first.

import { text, fill } from './strings.js';
import { el, section, setText, show } from './dom.js';
import { holderOf, nameOf, quotaName, seconds, until, words } from './format.js';

const MOST = 100;
/** The time over which they are counted, in ms. */
const SPAN = 4000;
const HIDDEN = new Set(['request.ended', 'usage.updated', 'queue.changed', 'replay.end']);

export function makeEvents() {
  let shown = [];
  let next = 0;
  let counts = [];
  const list = el('ol', { class: 'events' });
  const box = el('div', { class: 'scroll', tabindex: '0', role: 'group', 'aria-label': text.eventList }, list);
  const empty = el('p', { class: 'empty' }, text.noEvents);
  const { element, note } = section('events', text.events, box, empty);

  function render() {
    empty.hidden = shown.length > 0;
    box.hidden = shown.length === 0;
    show(list, shown, (event) => event.number, () => '', (event) =>
      el('li', {}, el('time', { datetime: new Date(event.at).toISOString() }, seconds(event.at)), el('span', {}, inWords(event))));
  }

  return {
    element,
    /** Events in order of time. */
    add(events) {
      const now = Date.now();
      counts.push([now, events.length]);
      const fresh = events.filter((event) => !HIDDEN.has(event.kind)).slice(-MOST).map((event) => ({ ...event, number: (next += 1) }));
      if (fresh.length === 0) return;
      shown = [...fresh.reverse(), ...shown].slice(0, MOST);
      render();
    },
    /** How many come; `null` when it is not known. */
    rate(now) {
      if (now === null) counts = [];
      counts = counts.filter(([at]) => now - at < SPAN);
      const rate = Math.round(counts.reduce((sum, [, count]) => sum + count, 0) / (SPAN / 1000));
      setText(note, rate >= 5 ? fill(text.eventRate, { n: rate }) : '');
    },
    render,
  };
}

function inWords(event) {
  const template = text.kinds[event.kind] ?? text.kinds.other;
  return fill(template, {
    ...event,
    account: nameOf(event.account),
    from: nameOf(event.from),
    holder: holderOf(event, text.aHolder),
    reason: words(event.reason),
    key: event.kind.startsWith('account.') ? quotaName(event.key) || text.whole : event.key,
    state: text.states[event.state] ?? words(event.state) ?? '',
    until: event.until ? until(event.until, event.at) : '',
  });
}

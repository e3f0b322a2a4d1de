// The leases, and the requests that wait for one.

import { text, fill } from './strings.js';
import { el, row, section, setText, show, table } from './dom.js';
import { holderOf, nameOf, span, when } from './format.js';

const column = (name, more) => ({ name, ...more });

export function makeLeases(act) {
  const of = table(text.leases, text.leaseColumns.map((name, at) => column(name, { wide: at === 4 })));
  const empty = el('p', { class: 'empty' }, text.noLeases);
  const { element, note } = section('leases', text.leases, of.element, empty);
  let known = [];
  const targets = (lease) => known.filter((account) => account.provider === lease.provider && account.id !== lease.account.id && account.enabled);
  return {
    element,
    update(leases, accounts, now) {
      known = accounts;
      of.element.hidden = leases.length === 0;
      empty.hidden = leases.length > 0;
      setText(note, leases.length > 0 ? String(leases.length) : '');
      show(of.body, leases, (lease) => lease.lease, (lease) => JSON.stringify([lease, Math.floor((now - lease.granted_at) / 30000)]), (lease) => {
        const holder = holderOf(lease, text.aHolder);
        return row(of, [holder, nameOf(lease.account), [lease.model, lease.pool].filter(Boolean).join(' · '), span(now - lease.granted_at),
          lease.directory || lease.session || '', act.isAllowed ? buttons(lease, holder, act, targets) : '']);
      });
    },
  };
}

function buttons(lease, holder, act, targets) {
  const button = (action, method) => {
    const label = fill(text.actions.of, { action: text.actions[action], name: holder });
    return el('button', { type: 'button', 'aria-label': label, 'data-key': `${action} ${lease.lease}`, onclick: () => act.run(text.actions[action], holder, method, { lease: lease.lease }, choice(action)) }, text.actions[action]);
  };
  /** Where a lease can move to. */
  const choice = (action) => action !== 'move' ? {} : {
    name: 'to', label: text.moveTo,
    choices: [['', text.bestOther], ...targets(lease).map((account) => [account.id, `${nameOf(account)} (${text.states[account.state] ?? account.state})`])],
  };
  return el('span', { class: 'actions' }, button('move', 'lease.move'), button('release', 'lease.release'));
}

export function makeQueue() {
  const of = table(text.queue, text.queueColumns.map((name, at) => column(name, { number: at === 0 })));
  const empty = el('p', { class: 'empty' }, text.noQueue);
  const { element, note } = section('queue', text.queue, of.element, empty);
  return {
    element,
    update(queue, now) {
      of.element.hidden = queue.length === 0;
      empty.hidden = queue.length > 0;
      setText(note, queue.length > 0 ? String(queue.length) : '');
      const shown = queue.slice(0, 100);
      show(of.body, shown, (waiting) => waiting.position, (waiting) => JSON.stringify([waiting, Math.floor(now / 5000)]), (waiting) =>
        row(of, [String(waiting.position), waiting.provider, waiting.model ?? '', waiting.label ?? '',
          waiting.eta_at ? fill(text.notBefore, { when: when(waiting.eta_at, now) }) : text.notKnown]));
    },
  };
}

// The requests of the gateway, with filters and the attempts of each.

import { text, fill } from './strings.js';
import { el, row, section, setText, show, table } from './dom.js';
import { clock, cost, nameOf, seconds, short, span, words } from './format.js';

const MOST = 100;
/** So many are shown at first. */
const FIRST = 15;
const TINTS = { ok: 'good', refused: 'warn', broken: 'bad', cancelled: '' };

export function makeRequests(load) {
  let rows = [];
  let visible = FIRST;
  let unnumbered = 0;
  const of = table(text.requests, text.requestColumns.map((name, at) => ({ name, number: at === 5, wide: at === 7, whole: at === 3 || at === 6 })));
  const empty = el('p', { class: 'empty' }, text.noRequests);
  const field = (name) => el('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', onchange: reload, name });
  const account = field('account');
  const model = field('model');
  const agent = field('agent');
  const status = el('select', { onchange: reload, name: 'status' }, el('option', { value: '' }, text.filters.any),
    Object.entries(text.results).map(([value, label]) => el('option', { value }, label)));
  const label = (name, input) => el('label', {}, text.filters[name], input);
  const filters = el('form', { class: 'filters', 'aria-label': text.requests, onsubmit: (event) => { event.preventDefault(); reload(); } },
    label('account', account), label('model', model), label('agent', agent), label('status', status));
  const more = el('button', { type: 'button', hidden: true, onclick: () => { visible = MOST; render(); } }, text.showMore);
  const { element, note } = section('requests', text.requests, filters, of.element, empty, more);

  const wanted = () => {
    const params = { of: 'requests', limit: MOST, since: Date.now() - 7 * 86400000 };
    if (account.value) params.account = account.value;
    if (model.value) params.model = model.value.includes('*') ? model.value : `*${model.value}*`;
    if (agent.value) params.agent = agent.value;
    if (status.value) params.status = status.value;
    return params;
  };

  const isFiltered = () => Boolean(account.value || model.value || agent.value || status.value);

  async function reload() {
    setText(note, '');
    try {
      rows = (await load(wanted())).requests;
    } catch (error) {
      rows = [];
      setText(note, error.message);
    }
    render();
  }

  function render() {
    of.element.hidden = rows.length === 0;
    empty.hidden = rows.length > 0;
    setText(empty, isFiltered() ? text.noMatch : text.noRequests);
    more.hidden = rows.length <= visible;
    show(of.body, rows.slice(0, visible), (request) => request.id, () => '', (request) => one(of, request));
  }

  return {
    element,
    reload,
    isFiltered,
    /** Shows requests that have just ended, newest first. */
    add(ended) {
      const known = new Set(rows.map((request) => request.id));
      // without a history, requests have no number
      const numbered = ended.map((request) => (request.id === 0 ? { ...request, id: `unnumbered ${(unnumbered += 1)}` } : request));
      const fresh = numbered.filter((request) => !known.has(request.id)).reverse();
      rows = [...fresh, ...rows].slice(0, MOST);
      render();
    },
  };
}

function one(of, request) {
  const result = request.outcome === 'ok' ? String(request.status ?? text.outcome.ok) : [request.status, text.outcome[request.outcome] ?? request.outcome].filter(Boolean).join(' ');
  const tokens = request.tokens ? fill(text.tokensOf, { input: short(request.tokens.input), output: short(request.tokens.output) }) : '';
  return row(of, [
    el('time', { datetime: new Date(request.at).toISOString() }, seconds(request.at)),
    el('span', { class: `badge ${TINTS[request.outcome] ?? ''}` }, result),
    nameOf(request.account),
    [request.model, request.pool].filter(Boolean).join(' · '),
    request.agent || request.holder?.program || request.label || '',
    span(request.duration_ms),
    [tokens, request.cost_usd ? cost(request.cost_usd) : ''].filter(Boolean).join(', '),
    chain(request),
  ]);
}

/** The attempts of a request: which account, what it answered, and until when it is limited. */
function chain(request) {
  const lines = request.attempts.length < 2 && request.outcome === 'ok' ? [] : request.attempts.map((attempt) => {
    const answer = [attempt.status ?? text.noStatus, words(attempt.reason)].filter(Boolean).join(' ');
    const values = { account: nameOf(attempt.account), status: answer, span: span(attempt.after_ms), until: attempt.until ? `until ${clock(attempt.until)}` : '' };
    const line = fill(attempt.until ? text.attemptUntil : text.attempt, values);
    return el('li', {}, line, attempt.evidence ? el('span', { class: 'dim' }, ` ${attempt.evidence}`) : null);
  });
  if (request.waited_ms >= 1000) lines.push(el('li', {}, fill(text.waited, { span: span(request.waited_ms) })));
  if (request.reason && request.outcome !== 'ok') lines.push(el('li', {}, words(request.reason)));
  return lines.length > 0 ? el('ul', { class: 'chain' }, lines) : '';
}

// Charts of the last day and week.

import { text, fill } from './strings.js';
import { el, meter, section, setText } from './dom.js';
import { cost, nameOf, number, percent, short, windowName } from './format.js';
import { columns } from './charts.js';

const HOUR = 3600000;
const SPANS = { day: { length: 24 * HOUR, step: HOUR, by: 'hour' }, week: { length: 7 * 24 * HOUR, step: 24 * HOUR, by: 'day' } };

export function makeHistory(load, samples) {
  let current = 'day';
  let ids = [];
  const totals = el('p', { class: 'totals' });
  const charts = el('div', { class: 'charts' });
  const quota = el('div', { class: 'windows' });
  const buttons = Object.keys(SPANS).map((name) =>
    el('button', { type: 'button', 'aria-pressed': String(name === current), onclick: () => choose(name) }, text.spans[name]));
  const share = el('figure', { class: 'chart' }, el('figcaption', {}, el('span', {}, text.charts.quotaNow)), quota);
  const { element, note } = section('history', text.history, el('div', { class: 'actions' }, buttons), totals, charts);

  function choose(name) {
    current = name;
    Object.keys(SPANS).forEach((span, at) => buttons[at].setAttribute('aria-pressed', String(span === name)));
    return reload();
  }

  async function reload() {
    const { length, step, by } = SPANS[current];
    const until = Date.now();
    let answer;
    try {
      answer = await load({ of: 'requests', since: until - length, by, limit: 0 });
    } catch (error) {
      setText(note, fill(text.noHistory, { why: error.message }));
      totals.hidden = true;
      charts.replaceChildren(shareOver(until - length, until, step), share);
      return;
    }
    setText(note, answer.dropped > 0 ? fill(text.dropped, { n: number(answer.dropped) }) : '');
    totals.hidden = false;
    totals.replaceChildren(...figures(answer.totals));
    const bars = (value) => series(answer, step, value);
    charts.replaceChildren(
      columns(text.charts.requests, bars((sums) => sums.requests), short),
      columns(text.charts.limits, bars((sums) => sums.limited), short, 'bad'),
      columns(text.charts.tokens, bars((sums) => sums.tokens.input + sums.tokens.output), short),
      columns(text.charts.cost, bars((sums) => sums.cost_usd), cost),
      shareOver(answer.since, answer.until, step), share);
  }

  /** The share of quota that was used at the end of each step; now, at the end of the last one. */
  function shareOver(since, until, step) {
    const ends = [];
    for (let end = until; end > since && ends.length < 200; end -= step) ends.unshift(end);
    const bars = ends.map((end) => ({ at: end, value: samples.shareAt(end, ids) ?? 0 }));
    const isKnown = samples.shareAt(until, ids) !== null;
    const last = (all) => (isKnown ? all[all.length - 1]?.value ?? 0 : null);
    const shown = (value) => (value === null ? text.notRead : percent(value));
    return columns(text.charts.quota, bars, shown, 'share', { sum: last, label: text.shareText, most: 1 });
  }

  return {
    element,
    reload,
    /** The share of each quota that is used now: the fullest window of each account. */
    updateQuota(accounts) {
      ids = accounts.map((account) => account.id);
      const rows = accounts.flatMap((account) => {
        const windows = account.usage.filter((window) => !window.rate && !window.stale);
        const fullest = windows.reduce((found, window) => (!found || window.utilization > found.utilization ? window : found), null);
        return fullest ? [{ account, window: fullest }] : [];
      });
      rows.sort((one, other) => other.window.utilization - one.window.utilization);
      const shown = rows.slice(0, 8);
      quota.replaceChildren(...(shown.length > 0 ? shown.flatMap(({ account, window }) => [
        el('span', { class: 'name' }, nameOf(account)),
        meter(`${nameOf(account)} ${windowName(account.provider, window)}`, window.utilization, percent(window.utilization)),
        el('span', { class: 'number' }, percent(window.utilization)),
        el('span', { class: 'dim' }, windowName(account.provider, window)),
      ]) : [el('span', { class: 'dim' }, text.noReading)]));
    },
  };
}

/** One bar for each step, also where nothing happened. */
function series(answer, step, value) {
  const groups = answer.groups.filter((group) => group.at !== null).map((group) => ({ at: group.at, value: value(group.sums) }));
  const first = groups.length > 0 ? groups[0].at : answer.until - step;
  const known = new Map(groups.map((bar) => [bar.at, bar]));
  let at = first;
  while (at - step >= answer.since) at -= step;
  const bars = [];
  for (; at <= answer.until && bars.length < 200; at += step) {
    bars.push(known.get(at) ?? [...known.values()].find((bar) => Math.abs(bar.at - at) < step / 2) ?? { at, value: 0 });
  }
  return bars;
}

function figures(sums) {
  const names = text.totals;
  const rows = [
    ['requests', sums.requests], ['ok', sums.ok], ['refused', sums.refused], ['broken', sums.broken], ['cancelled', sums.cancelled],
    ['attempts', sums.attempts], ['limited', sums.limited], ['input', sums.tokens.input], ['output', sums.tokens.output], ['cached', sums.tokens.cached],
  ];
  return rows.filter(([name, value]) => value > 0 || name === 'requests').map(([name, value]) =>
    el('span', { 'data-total': name, 'data-value': value }, el('strong', {}, number(value)), ` ${value === 1 ? text.totalsOfOne[name] ?? names[name] : names[name]}`));
}

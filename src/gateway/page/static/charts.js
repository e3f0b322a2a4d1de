// Charts as SVG, each with a text that says the same.

import { text, fill } from './strings.js';
import { el, svg } from './dom.js';
import { clock, percent } from './format.js';

const WIDTH = 300;
const HEIGHT = 96;

/** Columns over time. `bars`: `{ at, value }`; `format` writes a value, `sum` makes one of all. */
export function columns(name, bars, format, kind = '', { sum = total, label: template = text.chartText, most: full = 0 } = {}) {
  const all = sum(bars);
  const most = bars.reduce((found, bar) => (bar.value > found.value ? bar : found), { value: 0, at: 0 });
  const label = most.value > 0
    ? fill(template, { name, total: format(all), most: format(most.value), when: clock(most.at) })
    : fill(text.chartEmpty, { name });
  const plot = svg('svg', { class: 'plot', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label });
  plot.append(svg('line', { class: 'axis', x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }));
  const step = WIDTH / Math.max(1, bars.length);
  bars.forEach((bar, at) => {
    if (bar.value <= 0) return;
    const height = Math.max(2, (bar.value / (full || most.value)) * (HEIGHT - 4));
    const column = svg('rect', { class: `column ${kind}`, x: at * step + step * 0.12, y: HEIGHT - 1 - height, width: step * 0.76, height });
    const title = svg('title');
    title.textContent = `${clock(bar.at)}: ${format(bar.value)}`;
    column.append(title);
    plot.append(column);
  });
  const ends = bars.length > 0 ? [clock(bars[0].at), clock(bars[bars.length - 1].at)] : ['', ''];
  return el('figure', { class: 'chart' },
    el('figcaption', {}, el('span', {}, name), el('strong', {}, format(all))), plot,
    el('div', { class: 'scale', 'aria-hidden': 'true' }, el('span', {}, ends[0]), el('span', {}, ends[1])));
}

const total = (bars) => bars.reduce((sum, bar) => sum + bar.value, 0);

/** The usage of each window of an account over time. `series`: window name → `[at, share, reset]`. */
export function timeline(series) {
  const lines = [...series].filter(([, points]) => points.length > 1);
  if (lines.length === 0) return [el('p', { class: 'dim' }, text.noTimeline)];
  return lines.map(([window, points]) => {
    const [from, to] = [points[0][0], points[points.length - 1][0]];
    const shares = points.map(([, share]) => share);
    const values = { window, from: clock(from), to: clock(to), first: percent(shares[0]), last: percent(shares[shares.length - 1]) };
    const x = (at) => ((at - from) / Math.max(1, to - from)) * WIDTH;
    const y = (share) => HEIGHT - 2 - Math.min(1, share) * (HEIGHT - 4);
    const path = points.map(([at, share], index) => `${index ? 'L' : 'M'}${x(at).toFixed(1)} ${y(share).toFixed(1)}`).join('');
    const plot = svg('svg', { class: 'plot', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': fill(text.timelineOf, values) },
      svg('line', { class: 'axis', x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }), svg('line', { class: 'axis', x1: 0, x2: WIDTH, y1: 0.5, y2: 0.5 }),
      svg('path', { class: 'lines', d: path }));
    return el('figure', { class: 'chart' }, el('figcaption', {}, el('span', {}, window), el('strong', {}, values.last)), plot,
      el('div', { class: 'scale', 'aria-hidden': 'true' }, el('span', {}, values.from), el('span', {}, values.to)));
  });
}

/** Readings of the usage of each account, bounded. A window that is not read again keeps its share until it resets. */
export class Samples {
  #accounts = new Map();
  static most = 1000;

  add(account, window, at, share, reset) {
    const windows = this.#accounts.get(account) ?? new Map();
    this.#accounts.set(account, windows);
    const points = windows.get(window) ?? [];
    windows.set(window, points);
    let place = points.length;
    while (place > 0 && points[place - 1][0] > at) place -= 1;
    if (place > 0 && points[place - 1][0] === at) return;
    points.splice(place, 0, [at, share, reset]);
    // of the older half every second one is kept
    if (points.length > Samples.most) points.splice(0, Samples.most / 2, ...points.slice(0, Samples.most / 2).filter((_, index) => index % 2 === 0));
  }

  of(account) {
    return this.#accounts.get(account) ?? new Map();
  }

  count(account) {
    return [...this.of(account).values()].reduce((sum, points) => sum + points.length, 0);
  }

  /** How full the fullest window of each of these accounts was at a time, on average; `null` where nothing was read before. */
  shareAt(time, accounts) {
    const shares = accounts.map((account) => Math.max(-1, ...[...this.of(account).values()].map((points) => shareOf(points, time))));
    const known = shares.filter((share) => share >= 0);
    return known.length > 0 ? known.reduce((sum, share) => sum + share, 0) / known.length : null;
  }
}

function shareOf(points, time) {
  const last = points.findLast(([at]) => at <= time);
  if (!last) return -1;
  return last[2] && last[2] <= time ? 0 : last[1];
}

// Charts as SVG, each with a text that says the same.

import { text, fill } from './strings.js';
import { el, svg } from './dom.js';
import { clock, percent } from './format.js';

const WIDTH = 300;
const HEIGHT = 96;

/** Columns over time. `bars`: `{ at, value }`; `format` writes a value. */
export function columns(name, bars, format, kind = '') {
  const total = bars.reduce((sum, bar) => sum + bar.value, 0);
  const most = bars.reduce((found, bar) => (bar.value > found.value ? bar : found), { value: 0, at: 0 });
  const label = total > 0
    ? fill(text.chartText, { name, total: format(total), most: format(most.value), when: clock(most.at) })
    : fill(text.chartEmpty, { name });
  const plot = svg('svg', { class: 'plot', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label });
  plot.append(svg('line', { class: 'axis', x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }));
  const step = WIDTH / Math.max(1, bars.length);
  bars.forEach((bar, at) => {
    if (bar.value <= 0) return;
    const height = Math.max(2, (bar.value / most.value) * (HEIGHT - 4));
    const column = svg('rect', { class: `column ${kind}`, x: at * step + step * 0.12, y: HEIGHT - 1 - height, width: step * 0.76, height });
    const title = svg('title');
    title.textContent = `${clock(bar.at)}: ${format(bar.value)}`;
    column.append(title);
    plot.append(column);
  });
  const ends = bars.length > 0 ? [clock(bars[0].at), clock(bars[bars.length - 1].at)] : ['', ''];
  return el('figure', { class: 'chart' },
    el('figcaption', {}, el('span', {}, name), el('strong', {}, format(total))), plot,
    el('div', { class: 'scale', 'aria-hidden': 'true' }, el('span', {}, ends[0]), el('span', {}, ends[1])));
}

/** The usage of each window of an account over time. `series`: window name → `[at, share]`. */
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

/** Readings of the usage of each account, bounded. */
export class Samples {
  #accounts = new Map();
  static most = 500;

  add(account, window, at, share) {
    const windows = this.#accounts.get(account) ?? new Map();
    this.#accounts.set(account, windows);
    const points = windows.get(window) ?? [];
    windows.set(window, points);
    const last = points[points.length - 1];
    if (last && last[0] >= at) return;
    points.push([at, share]);
    if (points.length > Samples.most) points.shift();
  }

  of(account) {
    return this.#accounts.get(account) ?? new Map();
  }

  count(account) {
    return [...this.of(account).values()].reduce((sum, points) => sum + points.length, 0);
  }
}

// Run by .ci/browser.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync, lutimesSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core';

const lessor = process.env.LESSOR;
const here = import.meta.dirname;
const axe = readFileSync(join(here, 'node_modules/axe-core/axe.min.js'), 'utf8');
const problems = [];
const children = [];
const homes = [];
/** For readers: without what tests the drawing, and without warnings about this script. */
const isPicture = process.argv.includes('--readme');

// --- the upstream: the answer depends on the key ---

const upstream = createServer((request, response) => {
  request.resume().on('end', () => {
    const key = request.headers['x-api-key'] ?? '';
    const limited = key.includes('limited');
    const body = limited
      ? { type: 'error', error: { type: 'rate_limit_error', message: 'This request would exceed your 5-hour limit' } }
      : { id: 'msg_1', type: 'message', role: 'assistant', model: 'claude-sonnet-4-5', content: [{ type: 'text', text: 'ok' }], usage: { input_tokens: 1200, output_tokens: 340, cache_read_input_tokens: 900 } };
    const headers = { 'content-type': 'application/json' };
    if (limited) headers['retry-after'] = '4500';
    response.writeHead(limited ? 429 : 200, headers).end(JSON.stringify(body));
  });
});
await new Promise((done) => upstream.listen(0, '127.0.0.1', done));
const upstreamUrl = `http://127.0.0.1:${upstream.address().port}`;

// --- a daemon, and its socket ---

class Socket {
  constructor(path) {
    this.waiting = new Map();
    this.number = 0;
    let rest = '';
    this.stream = connect(path).on('data', (data) => {
      const lines = (rest + data).split('\n');
      rest = lines.pop();
      for (const line of lines) {
        const answer = JSON.parse(line);
        this.waiting.get(answer.id)?.(answer);
        this.waiting.delete(answer.id);
      }
    }).on('error', () => {});
  }

  ask(method, params = {}) {
    const id = (this.number += 1);
    return new Promise((done) => {
      this.waiting.set(id, done);
      this.stream.write(JSON.stringify({ jsonrpc: '2.0', id, method, params }) + '\n');
    });
  }

  async call(method, params) {
    const answer = await this.ask(method, params);
    assert(answer.result !== undefined, `${method}: ${JSON.stringify(answer.error)}`);
    return answer.result;
  }
}

async function daemon(config = '') {
  const home = mkdtempSync(join(tmpdir(), 'lessor-browser-'));
  homes.push(home);
  const env = { ...process.env, LESSOR_HOME: home };
  for (const name of ['BROWSER', 'LESSOR_SOCKET', 'LESSOR_CONFIG', 'LESSOR_NO_START']) delete env[name];
  writeFileSync(join(home, 'config.toml'), `${config}\n[quota]\npoll = "off"\n[providers.anthropic]\nbase_url = "${upstreamUrl}"\n[providers.openai]\nbase_url = "${upstreamUrl}"\n[providers.google]\nbase_url = "${upstreamUrl}"\n`, { mode: 0o600 });
  chmodSync(home, 0o700);
  const process_ = spawn(lessor, ['daemon'], { env, stdio: 'ignore' });
  children.push(process_);
  const ended = new Promise((done) => process_.on('exit', done));
  const path = join(home, 'run/lessor.sock');
  await until('the daemon listens', () => spawnSync(lessor, ['ping', '--no-start'], { env }).status === 0);
  const status = JSON.parse(spawnSync(lessor, ['status', '--json'], { env }).stdout);
  const socket = new Socket(status.socket ?? path);
  return { home, env, process: process_, ended, socket, url: status.gateway.url, stop: async () => { process_.kill(); await ended; } };
}

async function until(what, isSo, most = 20000) {
  const end = Date.now() + most;
  while (!(await isSo())) {
    if (Date.now() > end) throw new Error(`in vain: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

const add = (of, label, more = {}) => of.socket.call('account.add', { provider: 'anthropic', kind: 'api_key', secret: `sk-${label}-key`, label, ...more });

async function send(of, count) {
  const { key } = await of.socket.call('gateway.key', { agent: 'claude', label: 'scripts' });
  for (let at = 0; at < count; at += 1) {
    const body = JSON.stringify({ model: 'claude-sonnet-4-5', max_tokens: 16, messages: [{ role: 'user', content: 'hi' }] });
    await (await fetch(`${of.url}/anthropic/v1/messages`, { method: 'POST', headers: { 'x-api-key': key, 'content-type': 'application/json' }, body })).text();
  }
}

/** A lease of an account, and a report of its usage. */
async function usage(of, account, windows, provider = 'anthropic') {
  const lease = await of.socket.call('lease.acquire', { provider, account, wait_ms: 0, agent: 'claude' });
  await of.socket.call('lease.report', { lease: lease.lease, ok: true, usage: windows });
  return lease;
}

const limit = (of, lease) => of.socket.call('lease.report', {
  lease: lease.lease, status: 429, headers: { 'retry-after': '5400' },
  body: JSON.stringify({ type: 'error', error: { type: 'rate_limit_error', message: 'This request would exceed your 5-hour limit' + (isPicture ? '' : '. <b>Wait</b>') } }),
});
const soon = (hours) => Date.now() + hours * 3600000;

// --- the states ---

const states = {
  async empty() {
    return daemon();
  },
  async one() {
    const of = await daemon();
    await add(of, 'work', { tier: 'pro' });
    await send(of, 3);
    const earlier = await usage(of, 'work', { '5h': { utilization: 0.12, resets_at: soon(3) }, '7d': { utilization: 0.4, resets_at: soon(70) } });
    await of.socket.call('lease.release', { lease: earlier.lease });
    await usage(of, 'work', { '5h': { utilization: 0.31, resets_at: soon(3) }, '7d': { utilization: 0.64, resets_at: soon(70) } });
    return of;
  },
  async mixed() {
    const of = await daemon('[leases]\nper_account = 1\nmax_per_account = 1\noverflow = "wait"\n');
    for (const label of ['limited-1', 'work', 'home', isPicture ? 'team-a@example.org' : 'team-a-with-a-rather-long-name@example.org', 'night']) await add(of, label);
    for (const label of ['codex-1', 'codex-2', 'codex-limited']) await add(of, label, { provider: 'openai' });
    for (const label of ['gemini-1', 'gemini-2']) await add(of, label, { provider: 'google' });
    if (isPicture) for (const label of ['build', 'spare']) await add(of, label);
    const login = { kind: 'oauth', refresh_token: 'rt-of-test', expires_at: Date.now() + 3600000 };
    if (!isPicture) await add(of, 'login', { ...login, secret: 'at-of-test', email: 'login@example.org' });
    if (!isPicture) await add(of, 'old-login', { ...login, secret: 'at-of-test-2', email: 'old@example.org', expires_at: 1 });
    await send(of, 12);
    await usage(of, 'work', { '5h': { utilization: 0.42, resets_at: soon(2) }, '7d': { utilization: 0.97, resets_at: soon(50) } });
    await usage(of, 'home', { '5h': { utilization: 0.86, resets_at: soon(1) } });
    if (isPicture) {
      for (const [label, provider, share, week] of [['team-a@example.org', 'anthropic', 0.18, 0.55], ['build', 'anthropic', 0.63, 0.71], ['spare', 'anthropic', 0.04, 0.22], ['codex-2', 'openai', 0.37, 0.48]]) {
        const lease = await usage(of, label, { '5h': { utilization: share, resets_at: soon(3) }, '7d': { utilization: week, resets_at: soon(60) } }, provider);
        await of.socket.call('lease.release', { lease: lease.lease });
      }
    }
    const second = await usage(of, 'codex-1', { primary: { utilization: 1, resets_at: soon(4) } }, 'openai');
    await limit(of, second);
    await of.socket.call('account.disable', { account: 'night', reason: 'kept for the night' });
    of.waiters = ['a', 'b'].map((label) => of.socket.ask('lease.acquire', { provider: 'anthropic', account: 'home', wait_ms: 600000, label }));
    return of;
  },
  async limited() {
    const of = await daemon();
    for (const label of ['work', 'home', 'spare']) {
      await add(of, label);
      const lease = await usage(of, label, { '5h': { utilization: 1, resets_at: soon(1.5) } });
      await limit(of, lease);
    }
    return of;
  },
  async gone() {
    return { ...(await states.one()), isGone: true };
  },
  async busy() {
    const of = await daemon();
    for (let at = 0; at < 4; at += 1) await add(of, `account-${at}`);
    of.load = { on: true, events: 0 };
    // about 1 000 events a second
    (async () => {
      const begun = Date.now();
      while (of.load.on) {
        const lease = await of.socket.ask('lease.acquire', { provider: 'anthropic', wait_ms: 0, credential: false, label: 'load' });
        await of.socket.ask('lease.release', { lease: lease.result?.lease });
        of.load.events += 2;
        const ahead = of.load.events - (Date.now() - begun);
        if (ahead > 0) await new Promise((done) => setTimeout(done, ahead));
      }
    })();
    return of;
  },
};

// --- the looks ---

const browser = await puppeteer.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });

async function opened(of, width, scheme, actions = false) {
  const page = await browser.newPage();
  page.on('console', (message) => ['error', 'warn'].includes(message.type()) && !of.isGone && problems.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => problems.push(`error: ${error.message}`));
  page.on('request', (request) => request.url().startsWith(of.url) || problems.push(`loaded: ${request.url()}`));
  if (process.env.PAGE_FILES) {
    // the files as they are now, without a build
    await page.setRequestInterception(true);
    page.on('request', (request) => {
      const name = new URL(request.url()).pathname.replace(/^\/ui\//, '');
      const file = join(process.env.PAGE_FILES, name);
      if (!/^\w+\.(js|css)$/.test(name) || !existsSync(file)) return request.continue();
      return request.respond({ contentType: name.endsWith('js') ? 'text/javascript' : 'text/css', body: readFileSync(file) });
    });
  }
  await page.setViewport({ width, height: width < 500 ? 844 : 900, isMobile: width < 500, hasTouch: width < 500 });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
  const access = await of.socket.call('page.open', { actions });
  await page.goto(`${access.url}#${access.code}`);
  await page.waitForFunction(() => document.documentElement.dataset.readAt, { timeout: 20000 });
  assert.equal(await page.evaluate(() => location.hash), '', 'the code leaves the address');
  return page;
}

/** The page as it is: a picture, no overflow, nothing that axe finds. */
async function look(page, name, of, width, scheme) {
  if (!of.isGone) await page.waitForFunction(() => document.querySelector('.state').textContent === 'live', { timeout: 20000 });
  const file = join(here, 'shots', `${name}-${width}-${scheme}.png`);
  await page.screenshot({ path: file, fullPage: true });
  const overflow = await page.evaluate(() => [...document.querySelectorAll('body *')]
    .filter((element) => element.getBoundingClientRect().right > innerWidth + 1 && !element.closest('.hidden, .skip, thead'))
    .map((element) => `${element.tagName}.${element.className}`).slice(0, 5));
  const isWide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  if (isWide || overflow.length > 0) problems.push(`${name} ${width} ${scheme}: overflow ${overflow.join(' ')}`);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  for (const found of violations) problems.push(`${name} ${width} ${scheme}: axe ${found.id}: ${found.help} (${found.nodes.slice(0, 3).map((node) => node.html.slice(0, 120)).join(' | ')})`);
}

/** The numbers of the page against those of the socket. */
async function compare(page, name, of) {
  const expected = async () => {
    const [status, accounts, leases] = await Promise.all([of.socket.call('status'), of.socket.call('account.list'), of.socket.call('lease.list')]);
    const past = (await of.socket.ask('history.query', { of: 'requests', by: 'hour', limit: 0, since: Date.now() - 86400000 })).result;
    const used = accounts.flatMap((account) => account.usage.filter((window) => !window.rate && window.utilization > 0));
    const fullest = accounts.map((account) => account.usage.filter((window) => !window.rate).map((window) => window.utilization)).filter((shares) => shares.length > 0).map((shares) => Math.max(...shares));
    return {
      accounts: accounts.length, leases: leases.length, queue: status.queue.length,
      states: accounts.map((account) => account.state.replaceAll('_', ' ')).sort().join(),
      starts: status.providers.map((of) => `${of.serving} of ${of.accounts} can serve`).sort().join(),
      limits: accounts.reduce((sum, account) => sum + account.limits.length, 0),
      bars: used.map((window) => percent(window.utilization)).sort().join(),
      share: fullest.length > 0 ? percent(fullest.reduce((sum, share) => sum + share, 0) / fullest.length) : '–',
      rows: Math.min(15, past?.totals.requests ?? 0),
      requests: past?.totals.requests ?? 0, met: past?.totals.limited ?? 0, input: past?.totals.tokens.input ?? 0, output: past?.totals.tokens.output ?? 0,
    };
  };
  const shown = () => page.evaluate(() => {
    const all = (selector) => [...document.querySelectorAll(selector)];
    const total = (name) => Number(document.querySelector(`[data-total="${name}"]`)?.dataset.value ?? 0);
    return {
      accounts: all('.account').length, leases: all('#leases tbody tr').length, queue: all('#queue tbody tr').length,
      states: all('.account .badge').map((badge) => badge.textContent).sort().join(),
      starts: all('.start p.dim').map((line) => line.textContent.split(' · ')[0]).filter((line) => line.includes('can serve')).sort().join(),
      limits: all('.account .limits li').length,
      bars: all('.account .bar').map((bar) => bar.getAttribute('aria-valuetext')).sort().join(),
      share: all('#history figure').find((figure) => figure.textContent.startsWith('Share of quota'))?.querySelector('strong')?.textContent,
      rows: new Set(all('#requests tbody tr')).size,
      requests: total('requests'), met: total('limited'), input: total('input'), output: total('output'),
    };
  });
  let last;
  await until(`${name}: the same numbers`, async () => {
    last = [await shown(), await expected()];
    return JSON.stringify(last[0]) === JSON.stringify(last[1]);
  }, 15000).catch(() => problems.push(`${name}: the page shows ${JSON.stringify(last[0])}, the socket says ${JSON.stringify(last[1])}`));
}

/** A share in the words of `lessor status`. */
function percent(share) {
  const rounded = Math.round(share * 100);
  return share > 0 && rounded < 1 ? '< 1 %' : `${share < 1 ? Math.min(rounded, 99) : rounded} %`;
}

/** The usage over time of every account that has some. */
async function openTimelines(page, name) {
  for (const summary of await page.$$('.account summary')) await summary.click();
  const lines = () => page.$$eval('.account details[open] svg', (plots) => plots.map((plot) => plot.getAttribute('aria-label')));
  if (name === 'one') {
    await until('both windows have a line', async () => (await lines()).length === 2, 10000);
    const [first] = await lines();
    assert.match(first, /^Usage of (5h|7d): from (12|40) % to (31|64) %/);
  }
}

/** Readings of usage: in any order, bounded, none after a reset, averaged over the accounts that have some. */
async function samples(page) {
  const found = await page.evaluate(async () => {
    const { Samples } = await import('/ui/charts.js');
    const samples = new Samples();
    const times = Array.from({ length: 5000 }, (_, at) => at * 1000).reverse();
    times.forEach((at) => samples.add('many', '5h', at, at / 5000000, null));
    samples.add('few', '5h', 2000, 0.8, 9000);
    samples.add('few', '5h', 2000, 0.1, 9000);
    samples.add('few', '7d', 2000, 0.3, null);
    const points = samples.of('many').get('5h').map(([at]) => at);
    return {
      count: samples.count('many') <= 1000 && points.every((at, index) => index === 0 || at > points[index - 1]) && points.at(-1) === 4999000,
      before: samples.shareAt(1999, ['few', 'none']), fullest: samples.shareAt(2000, ['few', 'none']), reset: samples.shareAt(9000, ['few']),
      average: Math.round(samples.shareAt(4999000, ['few', 'many']) * 1000),
    };
  });
  assert.deepEqual(found, { count: true, before: null, fullest: 0.8, reset: 0.3, average: Math.round((0.3 + 4999 / 5000) * 500) });
}

/** Each action, as a person does it: the button, the question, and what the socket says afterwards. */
async function actions() {
  const of = await daemon();
  for (const label of ['work', 'home', 'spare']) await add(of, label);
  await send(of, 1);
  const lease = await of.socket.call('lease.acquire', { provider: 'anthropic', account: 'work', wait_ms: 0, agent: 'claude' });
  await of.socket.call('gateway.key', { lease: lease.lease });
  const id = Object.fromEntries((await of.socket.call('account.list')).map((account) => [account.label, account.id]));
  const state = async (label) => (await of.socket.call('account.list')).find((account) => account.label === label);
  const shows = await opened(of, 1440, 'light');
  await shows.waitForSelector('.account');
  await samples(shows);
  assert.equal(await shows.$('.account .actions'), null, 'a page without actions has no buttons');
  await shows.close();
  for (const width of [1440, 390]) {
    const page = await opened(of, width, width > 500 ? 'light' : 'dark', true);
    const press = async (key) => {
      await page.waitForSelector(`[data-key="${key}"]`);
      await page.$eval(`[data-key="${key}"]`, (button) => { button.focus(); button.click(); });
      await page.waitForSelector('dialog[open]');
    };
    const answer = (word) => page.click(`dialog [data-answer="${word}"]`);
    const said = (part) => until(`the page says ${part}`, async () => (await page.$eval('.notice', (line) => line.textContent)).includes(part));
    await press(`disable ${id.home}`);
    await look(page, 'question', of, width, width > 500 ? 'light' : 'dark');
    await page.keyboard.press('Escape');
    await page.waitForFunction(() => !document.querySelector('dialog'));
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute('data-key')), `disable ${id.home}`, 'the focus is back');
    assert.equal((await state('home')).state, 'ready', 'Escape changes nothing');
    await press(`disable ${id.home}`);
    await answer('yes');
    await said('Done: Disable: home');
    assert.equal((await state('home')).state, 'disabled');
    await press(`enable ${id.home}`);
    await answer('yes');
    await said('Done: Enable: home');
    assert.equal((await state('home')).enabled, true);
    const spare = await of.socket.call('lease.acquire', { provider: 'anthropic', account: 'spare', wait_ms: 0, agent: 'claude' });
    await limit(of, spare);
    await of.socket.call('lease.release', { lease: spare.lease });
    await press(`clear ${id.spare}`);
    await answer('yes');
    await said('Done: Clear limits: spare');
    assert.deepEqual((await state('spare')).limits, []);
    const [held] = await of.socket.call('lease.list');
    const to = held.account.label === 'work' ? 'home' : 'work';
    await press(`move ${held.lease}`);
    const choices = await page.$$eval('dialog option', (options) => options.map((option) => option.textContent));
    assert.deepEqual([choices[0], choices.length, choices.some((choice) => choice.startsWith(held.account.label))], ['the best other account', 3, false]);
    await look(page, 'move', of, width, width > 500 ? 'light' : 'dark');
    await page.select('dialog select', id[to]);
    await answer('yes');
    await said(`from ${held.account.label} to ${to}`);
    const moved = await of.socket.call('lease.list');
    assert.deepEqual(moved.map((row) => row.account.label), [to]);
    await page.waitForSelector(`[data-key="release ${moved[0].lease}"]`);
    if (width > 500) {
      await press(`move ${moved[0].lease}`);
      await answer('yes');
      await said(`from ${to} to `);
    } else {
      // the lease ends while the question is open
      await press(`release ${moved[0].lease}`);
      await of.socket.call('lease.release', { lease: moved[0].lease });
      await answer('yes');
      await said('Not done: ');
      await until('the page shows no lease', async () => (await page.$$('#leases tbody tr')).length === 0);
    }
    await page.close();
  }
  await of.stop();
  console.log('actions: all carried out');
}

const memoryOf = (process_) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${process_.pid}/status`, 'utf8'))[1]) >> 10;

/** A page that no browser opens: its code ends, and its file is removed. Waits for that while others run. */
async function unopened() {
  const of = await daemon();
  const run = join(of.home, 'run');
  // what others could have put there is neither followed nor kept
  const target = join(of.home, 'kept');
  const link = join(run, 'page-planted.html');
  writeFileSync(target, 'kept');
  symlinkSync(target, link);
  lutimesSync(link, 1, 1);
  const ui = spawn(lessor, ['ui'], { env: { ...of.env, BROWSER: '/bin/true' } });
  let said = '';
  ui.stderr.on('data', (text) => { said += text; });
  const exited = new Promise((done) => ui.on('exit', done));
  const files = () => readdirSync(run).filter((name) => name.startsWith('page-'));
  await until('the file is there', () => files().length === 1 && !existsSync(link));
  const [name] = files();
  const [, code] = /#([\w-]{40,})/.exec(readFileSync(join(run, name), 'utf8'));
  return async () => {
    assert.notEqual(await exited, 0);
    assert.match(said, /not opened the page within 60 s/);
    assert.deepEqual([files(), readFileSync(target, 'utf8')], [[], 'kept']);
    const late = await fetch(`${of.url}/ui/api/session`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ code }) });
    assert.equal(late.status, 403, 'the code has ended');
    await of.stop();
    console.log('unopened: the code has ended, and its file is gone');
  };
}

/** `lessor ui` hands the browser a file that only this user can read, and removes it. */
async function command() {
  const of = await states.empty();
  const note = join(of.home, 'opened');
  const script = join(of.home, 'browser.sh');
  writeFileSync(script, `#!/bin/sh\nprintf '%s' "$*" > ${note}.tmp && mv ${note}.tmp ${note}\n`, { mode: 0o700 });
  const ui = spawn(lessor, ['ui'], { env: { ...of.env, BROWSER: script }, stdio: 'ignore' });
  const exited = new Promise((done) => ui.on('exit', done));
  await until('the browser is started', () => existsSync(note));
  const file = readFileSync(note, 'utf8');
  assert(!file.includes('#') && file.endsWith('.html'), `the browser got ${file}`);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const [, secret] = /#([\w-]{40,})/.exec(readFileSync(file, 'utf8'));
  const commands = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((pid) => ['cmdline', 'environ'].map((name) => {
    try {
      return readFileSync(`/proc/${pid}/${name}`, 'latin1');
    } catch {
      return '';
    }
  }));
  assert(!commands.some((text) => text.includes(secret)), 'no process has the code as an argument');
  const page = await browser.newPage();
  await page.goto(`file://${file}`);
  await page.waitForFunction(() => location.protocol === 'http:' && document.documentElement.dataset.readAt, { timeout: 20000 });
  const code = await exited;
  assert.deepEqual([code, existsSync(file)], [0, false]);
  // the session lasts as long as the tab; the code does not
  await page.reload();
  await page.waitForFunction(() => document.documentElement.dataset.readAt, { timeout: 20000 });
  await page.close();
  await of.stop();
}

try {
  const only = process.argv.slice(2).filter((word) => !word.startsWith('--'));
  const unopenedEnds = only.length === 0 || only.includes('unopened') ? await unopened() : null;
  if (only.length === 0) await command();
  if (only.length === 0 || only.includes('actions')) await actions();
  for (const [name, make] of Object.entries(states)) {
    if (only.length > 0 && !only.includes(name)) continue;
    const of = await make();
    const pages = [];
    for (const [width, scheme] of [[1440, 'light'], [390, 'light'], [1440, 'dark'], [390, 'dark']]) {
      pages.push({ page: await opened(of, width, scheme), width, scheme });
    }
    if (of.load) {
      const [{ page }] = pages;
      await page.bringToFront();
      const heap = [];
      const notes = [];
      const resident = [memoryOf(of.process)];
      const begun = [Date.now(), of.load.events];
      for (let at = 0; at < 4; at += 1) {
        await new Promise((done) => setTimeout(done, 2500));
        await page.evaluate(() => globalThis.gc?.());
        heap.push(Math.round((await page.metrics()).JSHeapUsedSize / 1048576));
        resident.push(memoryOf(of.process));
        notes.push(Number(/\d+/.exec(await page.$eval('#events .note', (element) => element.textContent))?.[0] ?? 0));
        const behind = await page.evaluate(() => Date.now() - Number(document.documentElement.dataset.readAt));
        if (behind > 3000) problems.push(`busy: the accounts were read ${behind} ms ago`);
      }
      const rate = Math.round((of.load.events - begun[1]) / ((Date.now() - begun[0]) / 1000));
      const nodes = (await page.metrics()).Nodes;
      console.log(`busy: ${rate} events a second; the page says ${notes.join(', ')}; its heap ${heap.join(', ')} MiB, ${nodes} nodes; the daemon ${resident.join(', ')} MiB`);
      // the first number counts from the beginning of the load; a busy machine may delay one look
      const seen = notes.slice(1).sort((one, other) => one - other)[1];
      if (Math.abs(seen - rate) > rate / 4) problems.push(`busy: ${rate} events a second, and the page says ${notes.join(', ')}`);
      if (resident.at(-1) - resident[1] > 20) problems.push(`busy: the daemon grows: ${resident.join(', ')} MiB`);
      if (Math.max(...heap) > 80) problems.push(`busy: the heap grows: ${heap.join(', ')} MiB`);
    }
    if (of.isGone) {
      await of.stop();
      for (const { page } of pages) {
        await page.bringToFront();
        await page.waitForSelector('.banner:not([hidden])', { timeout: 20000 });
      }
    }
    for (const { page, width, scheme } of pages) {
      await page.bringToFront();
      if (!of.isGone && !of.load) await compare(page, `${name} ${width}`, of);
      await look(page, name, of, width, scheme);
      if (name === 'one' && scheme === 'light') {
        // what comes while the page is open
        await send(of, 2);
        await compare(page, `${name} ${width}, live`, of);
      }
      if (name === 'mixed' && scheme === 'light' && isPicture) {
        mkdirSync(join(here, '../../docs/img'), { recursive: true });
        // what one sees first
        await page.evaluate(() => scrollTo(0, 0));
        await page.screenshot({ path: join(here, '../../docs/img', width > 500 ? 'ui-desktop.png' : 'ui-phone.png') });
      }
      if (['one', 'mixed'].includes(name)) {
        await openTimelines(page, name);
        await look(page, `${name}-usage`, of, width, scheme);
      }
      await page.close();
    }
    if (of.load) of.load.on = false;
    if (!of.isGone) await of.stop();
    console.log(`${name}: looked at`);
  }
  await unopenedEnds?.();
} finally {
  await browser.close();
  upstream.close();
  children.forEach((child) => child.kill());
  homes.forEach((home) => rmSync(home, { recursive: true, force: true }));
}
if (problems.length > 0) {
  console.error([...new Set(problems)].join('\n'));
  process.exit(1);
}
console.log('every state is fine');
process.exit(0);

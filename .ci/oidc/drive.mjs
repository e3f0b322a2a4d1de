// Starts oidc-provider, logs in with lessor in each supported way, lets tokens expire and be refreshed, kills the daemon
// several times, and checks that no refresh token was used twice.

import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync, rmSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import assert from 'node:assert/strict';
import { Provider } from 'oidc-provider';

const LIFE = 6; // lifetime of an access token in seconds
const lessor = process.env.LESSOR;
const home = mkdtempSync(join(tmpdir(), 'lessor-oidc-'));
const env = { ...process.env, LESSOR_HOME: home, SECRET_OF_TEST: 'confidential-secret' };
for (const name of ['BROWSER', 'DISPLAY', 'WAYLAND_DISPLAY', 'LESSOR_SOCKET', 'LESSOR_CONFIG']) delete env[name];

// --- the server ---

const http = createServer();
await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${http.address().port}`;
const client = (id, more) => ({
  client_id: id,
  application_type: 'native',
  redirect_uris: ['http://127.0.0.1/callback'],
  grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
  ...more,
});
const provider = new Provider(issuer, {
  clients: [
    client('public-client', { token_endpoint_auth_method: 'none' }),
    client('confidential-client', { token_endpoint_auth_method: 'client_secret_basic', client_secret: 'confidential-secret' }),
  ],
  claims: { openid: ['sub'], email: ['email'], profile: ['name'] },
  features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true } },
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@example.org`, name: id }) }),
  rotateRefreshToken: true,
  ttl: { AccessToken: LIFE, IdToken: 60, RefreshToken: 86400, Grant: 86400, Session: 60, Interaction: 60, DeviceCode: 60, AuthorizationCode: 60 },
});
const seen = { refreshed: 0, errors: [], revoked: 0 };
provider.on('grant.success', (ctx) => { if (ctx.oidc.params.grant_type === 'refresh_token') seen.refreshed += 1; });
provider.on('grant.error', (ctx, error) => {
  if (!['authorization_pending', 'slow_down'].includes(error.error)) seen.errors.push(`${ctx.oidc.params?.grant_type}: ${error.error} ${error.error_detail ?? ''}`);
});
provider.on('grant.revoked', () => { seen.revoked += 1; });
http.on('request', provider.callback());

// --- a minimal browser ---

class Browser {
  cookies = new Map();

  async get(url, form) {
    for (;;) {
      const headers = { cookie: [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ') };
      const body = form && new URLSearchParams(form);
      const response = await fetch(url, { method: form ? 'POST' : 'GET', headers, body, redirect: 'manual' });
      for (const cookie of response.headers.getSetCookie()) {
        const [name, value] = cookie.split(';')[0].split(/=(.*)/s);
        if (value) this.cookies.set(name, value); else this.cookies.delete(name);
      }
      const location = response.headers.get('location');
      if (!location) return { url, text: await response.text() };
      url = new URL(location, url).href;
      form = undefined;
      if (!url.startsWith(issuer)) return { url };
    }
  }

  // logs in and consents to each form, until the browser is redirected to another site or no form is left
  async agree(start, who, form) {
    let page = await this.get(start, form);
    for (let step = 0; step < 6 && page.text?.includes('<form'); step += 1) {
      const action = page.text.match(/<form[^>]*action="([^"]+)"/)[1];
      const fields = Object.fromEntries([...page.text.matchAll(/<input[^>]*type="hidden"[^>]*>/g)].map(([tag]) => [
        tag.match(/name="([^"]+)"/)[1], tag.match(/value="([^"]*)"/)?.[1] ?? '',
      ]));
      if (page.text.includes('name="login"')) Object.assign(fields, { login: who, password: 'x' });
      page = await this.get(new URL(action, page.url).href, fields);
    }
    return page;
  }
}

// --- lessor ---

// not synchronous: the server runs in this process and must be able to answer
async function run(...args) {
  const child = spawn(lessor, args, { env });
  let said = '', out = '';
  child.stdout.on('data', (data) => { out += data; });
  child.stderr.on('data', (data) => { said += data; });
  const status = await new Promise((resolve) => child.on('close', resolve));
  assert.equal(status, 0, `lessor ${args.join(' ')}: ${said}`);
  return out;
}
const json = async (...args) => JSON.parse(await run(...args, '--json'));
const accounts = () => json('account', 'list');

// Starts a login; `meet` receives its output and, for pasting, its input.
async function login(name, args, meet) {
  const child = spawn(lessor, ['login', name, '--no-browser', '--json', ...args], { env });
  let said = '', out = '';
  child.stdout.on('data', (data) => { out += data; });
  const ended = new Promise((resolve) => child.on('close', resolve));
  const word = (pattern) => new Promise((resolve, reject) => {
    const look = () => { const found = said.match(pattern); if (found) resolve(found[0]); };
    child.stderr.on('data', (data) => { said += data; look(); });
    ended.then(() => reject(new Error(`lessor login ended: ${said}`)));
  });
  await meet({ word, stdin: child.stdin });
  assert.equal(await ended, 0, said);
  return JSON.parse(out);
}

const address = /http:\/\/\S+(?=\s)/;
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

function kill() {
  const lock = readFileSync(join(home, 'data', 'daemon.lock'), 'utf8');
  process.kill(Number(lock.match(/\d+/)[0]), 'SIGKILL');
}

try {
  writeFileSync(join(home, 'config.toml'), `
[providers.open.oauth]
issuer = "${issuer}"
client_id = "public-client"

[providers.closed.oauth]
issuer = "${issuer}"
client_id = "confidential-client"
client_secret_env = "SECRET_OF_TEST"
`);

  const byCode = (name, who) => login(name, [], async ({ word }) => {
    const end = await new Browser().agree(await word(address), who);
    assert.match(end.url, /^http:\/\/127\.0\.0\.1:\d+\/callback\?/);
    await fetch(end.url);
  });
  const first = await byCode('open', 'ann');
  assert.deepEqual([first.email, first.account_id, first.state], ['ann@example.org', 'ann', 'ready']);
  console.log('login by code: ok');

  const pasted = await login('open', ['--paste'], async ({ word, stdin }) => {
    const end = await new Browser().agree(await word(address), 'bob');
    stdin.write(`${end.url}\n`);
  });
  assert.equal(pasted.email, 'bob@example.org');
  console.log('login by paste: ok');

  const device = await login('open', ['--device'], async ({ word }) => {
    const code = await word(/[A-Z]{4}-[A-Z]{4}/);
    const browser = new Browser();
    const page = await browser.get(`${issuer}/device`);
    const xsrf = page.text.match(/name="xsrf" value="([^"]+)"/)[1];
    await browser.agree(`${issuer}/device`, 'cyd', { xsrf, user_code: code });
    const confirm = await browser.get(`${issuer}/device`, { xsrf, user_code: code, confirm: 'yes' });
    if (confirm.text?.includes('<form')) await browser.agree(confirm.url, 'cyd');
  });
  assert.equal(device.email, 'cyd@example.org');
  console.log('login by device: ok');

  const closed = await byCode('closed', 'dan');
  assert.equal(closed.email, 'dan@example.org');
  console.log('login of a client with a secret: ok');

  const again = await byCode('open', 'ann');
  assert.equal(again.id, first.id);
  assert.equal((await accounts()).length, 4);
  console.log('a second login renews the account: ok');

  // tokens expire and are refreshed automatically, several times
  const before = seen.refreshed;
  await pause(3 * LIFE);
  assert.ok(seen.refreshed - before >= 4 * 3, `only ${seen.refreshed - before} refreshes`);
  // then on request, and the daemon is killed in between
  for (let round = 0; round < 5; round += 1) {
    for (const account of await accounts()) await run('account', 'refresh', account.id);
    kill();
  }
  assert.deepEqual((await accounts()).map((account) => account.state), ['ready', 'ready', 'ready', 'ready']);
  for (const account of await accounts()) {
    const lease = await json('acquire', account.provider, '--account', account.id, '--ttl', '60s');
    const me = await fetch(`${issuer}/me`, { headers: { authorization: `Bearer ${lease.credential.secret}` } });
    assert.equal(me.status, 200);
    assert.equal((await me.json()).email, lease.account.email);
  }
  assert.deepEqual([seen.errors, seen.revoked], [[], 0]);
  console.log(`refresh with rotation: ok (${seen.refreshed} refreshes, no token used twice)`);
} finally {
  spawnSync(lessor, ['stop'], { env });
  http.close();
  http.closeAllConnections();
  rmSync(home, { recursive: true, force: true });
}

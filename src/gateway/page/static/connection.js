// The connection to the daemon: the session, the calls and the stream of events.

const KEY = 'lessor-session';
const RETRY = [1000, 2000, 4000, 8000];

export class SessionEnded extends Error {}
export class Unreachable extends Error {}

let session = null;
let number = 0;

/** Exchanges the code of the address, once, or takes up the session of this tab. */
export async function open() {
  const code = location.hash.slice(1);
  if (code) {
    history.replaceState(null, '', location.pathname);
    const response = await send('/ui/api/session', { method: 'POST', body: JSON.stringify({ code }) });
    if (response.ok) {
      session = await response.json();
      sessionStorage.setItem(KEY, JSON.stringify(session));
      return session;
    }
  }
  const kept = sessionStorage.getItem(KEY);
  if (!kept) throw new SessionEnded();
  session = JSON.parse(kept);
  return session;
}

async function send(path, { method = 'GET', body, signal } = {}) {
  const headers = body === undefined ? {} : { 'content-type': 'application/json' };
  if (session) headers['x-lessor-session'] = session.session;
  let response;
  try {
    response = await fetch(path, { method, headers, body, signal, credentials: 'omit', cache: 'no-store', redirect: 'error' });
  } catch (error) {
    throw signal?.aborted ? error : new Unreachable();
  }
  if (response.status === 401) {
    sessionStorage.removeItem(KEY);
    throw new SessionEnded();
  }
  return response;
}

/** A call of the socket's protocol; the same answer as there. */
export async function call(method, params = {}) {
  number += 1;
  const response = await send('/ui/api/call', { method: 'POST', body: JSON.stringify({ jsonrpc: '2.0', id: number, method, params }) });
  if (response.status === 429) throw new Error((await response.json()).error.message);
  if (!response.ok) throw new Unreachable();
  const answer = await response.json();
  if (answer.error) {
    const hint = answer.error.data?.hint;
    throw new Error(hint ? `${answer.error.message}; ${hint}` : answer.error.message);
  }
  return answer.result;
}

/** Follows the events until `signal`; tries again after a break. */
export async function follow(signal, { onOpen, onEvents, onBreak }) {
  for (let tries = 0; !signal.aborted; tries += 1) {
    try {
      const response = await send('/ui/api/events', { signal });
      if (response.ok) {
        tries = 0;
        onOpen();
        await read(response.body.getReader(), onEvents);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof SessionEnded) return onBreak(error);
    }
    if (signal.aborted) return;
    onBreak(new Unreachable());
    await new Promise((done) => setTimeout(done, RETRY[Math.min(tries, RETRY.length - 1)]));
  }
}

async function read(reader, onEvents) {
  const decoder = new TextDecoder();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    const messages = rest.split('\n\n');
    rest = messages.pop();
    const events = messages.flatMap(parse);
    if (events.length > 0) onEvents(events);
  }
}

function parse(message) {
  if (message.startsWith('event:')) return [];
  const lines = message.split('\n').filter((line) => line.startsWith('data: '));
  return lines.map((line) => JSON.parse(line.slice(6)).params);
}

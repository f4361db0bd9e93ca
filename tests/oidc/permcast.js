/** One replica of the program by itself: a free port, a folder of its own, gone with the test. */

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const BINARY = resolve(process.env['PERMCAST_BIN'] ?? join(import.meta.dirname, '../../target/debug/permcast'));
const READY_WITHIN_MS = 45_000;
const OPERATOR = { username: 'root', password: 'correct horse battery staple' };

/** Resolves when it serves, with the operator signed in. */
export async function startPermcast(issuers) {
  const folder = await mkdtemp(join(tmpdir(), 'permcast-oidc-'));
  const child = spawn(BINARY, ['serve'], {
    cwd: folder,
    env: {
      ...process.env,
      PERMCAST_LISTEN: '127.0.0.1:0',
      PERMCAST_DATABASE_URL: `sqlite://${join(folder, 'permcast.db')}`,
      PERMCAST_DRAIN_DELAY: '0s',
      PERMCAST_LOG: 'warn',
      PERMCAST_BOOTSTRAP_USER: OPERATOR.username,
      PERMCAST_BOOTSTRAP_PASSWORD: OPERATOR.password,
      PERMCAST_ISSUERS: JSON.stringify(issuers),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const stop = async () => {
    if (child.exitCode === null) {
      const ended = new Promise((done) => child.once('exit', done));
      child.kill('SIGTERM');
      await ended;
    }
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const base = await address(child);
    const { access_token: token } = await call(base, 'POST', '/v1/login', undefined, OPERATOR);
    return { base, stop, root: (method, path, body) => call(base, method, path, token, body) };
  } catch (error) {
    await stop();
    throw error;
  }
}

function address(child) {
  return new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error('it did not come up')), READY_WITHIN_MS);
    child.once('exit', (code) => fail(new Error(`it ended with ${code}`)));
    createInterface({ input: child.stdout }).on('line', (line) => {
      const found = /http:\/\/\S+/.exec(line);
      if (found === null) return;
      clearTimeout(timer);
      done(found[0].replace(/\/$/, ''));
    });
  });
}

/** A request that must succeed; gives the answer's JSON. */
export async function call(base, method, path, token, body) {
  const response = await ask(base, method, path, token, body);
  const answer = await response.json();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

/** Any request. */
export function ask(base, method, path, token, body) {
  const headers = { 'content-type': 'application/json' };
  if (token !== undefined) headers.authorization = `Bearer ${token}`;
  return fetch(`${base}${path}`, { method, headers, body: body && JSON.stringify(body) });
}

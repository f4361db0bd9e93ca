/** One replica of the program by itself: a folder of its own, gone with the test. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OPERATOR, startReplica } from '../replica.mjs';

/** Resolves when it serves, with the operator signed in. */
export async function startPermcast(issuers) {
  const folder = await mkdtemp(join(tmpdir(), 'permcast-oidc-'));
  let replica;
  const stop = async () => {
    await replica?.end('SIGTERM');
    await rm(folder, { recursive: true, force: true });
  };
  try {
    replica = await startReplica(folder, {
      PERMCAST_DRAIN_DELAY: '0s',
      PERMCAST_LOG: 'warn',
      PERMCAST_ISSUERS: JSON.stringify(issuers),
    });
    const { base } = replica;
    const { access_token: token } = await call(base, 'POST', '/v1/login', undefined, OPERATOR);
    return { base, stop, root: (method, path, body) => call(base, method, path, token, body) };
  } catch (error) {
    await stop();
    throw error;
  }
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

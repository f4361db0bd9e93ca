import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { PermcastClient } from '../../sdk/js/dist/index.js';
import { OPERATOR } from '../replica.mjs';
import { startCluster } from './replicas.js';

const { password } = OPERATOR;

const CLIENTS = 16;
/** A replica that is gone is noticed by the end of its connections; then a backoff of half a second, and some luck. */
const BACK_WITHIN_MS = 8_000;

/** Waits until something is so for every client. */
async function all(clients, what, isSo, withinMs = BACK_WITHIN_MS) {
  const end = Date.now() + withinMs;
  for (;;) {
    const not = clients.filter((client) => !isSo(client));
    if (not.length === 0) return;
    const states = JSON.stringify(not.map((client) => client.state)).slice(0, 2_000);
    assert.ok(Date.now() < end, `${what}: not so for ${not.length} of ${clients.length}: ${states}`);
    await sleep(20);
  }
}

const isOn = (replica) => (client) => client.state.link?.kind === 'live' && client.state.link.replica === replica;
const isLive = (client) => client.state.link?.kind === 'live';

test('clients follow their permissions while replicas are restarted and killed', { timeout: 120_000 }, async (t) => {
  const cluster = await startCluster();
  const clients = [];
  const root = new PermcastClient({ baseUrl: cluster.base, realtime: false });
  t.after(async () => {
    // Whoever stays signed in keeps his timers, and the process with them.
    await Promise.all([root, ...clients].map((client) => client.signOut().catch(() => {})));
    await cluster.stop();
  });

  await root.signIn(OPERATOR);
  const users = '/v1/tenants/default/users';
  const role = '/v1/tenants/default/roles/reader';
  /** The administrator's own connection may break with its replica: what he asks for may be asked for twice. */
  const change = async (method, path, json) => {
    for (let attempt = 0; ; attempt++) {
      try {
        return await root.call(path, { method, json });
      } catch (error) {
        if (attempt === 50 || (error.kind === 'problem' && error.status < 500)) throw error;
        await sleep(50);
      }
    }
  };
  await change('POST', '/v1/tenants/default/roles', { name: 'reader', permissions: ['a:read'] });

  /** Whoever was refused anything that he holds, or signed out. */
  const wronged = [];
  for (let number = 0; number < CLIENTS; number++) {
    const id = `user-${number}`;
    await change('POST', users, { id, password });
    await change('PUT', `${users}/${id}/roles/reader`);
    const client = new PermcastClient({ baseUrl: cluster.base });
    client.onChange((state) => {
      if (state.status !== 'signed_in') wronged.push(`${id} is ${JSON.stringify(state)}`);
      else if (!state.permissions.includes('a:read')) wronged.push(`${id} lost a permission that nobody took`);
    });
    await client.signIn({ username: id, password });
    wronged.length = 0;
    clients.push(client);
  }
  await all(clients, 'live', isLive);
  const onA = clients.filter(isOn('a'));
  assert.ok(onA.length > 0 && onA.length < CLIENTS, 'the balancer spreads them');

  await t.test('a replica that is told to end hands its clients over', async () => {
    const ending = cluster.end('a', 'SIGTERM');
    await change('PUT', `${role}/permissions/b:while-draining`);
    await all(clients, 'live on the other', isOn('b'));
    await all(clients, 'told of what was changed meanwhile', (client) => client.can('b:while-draining'));
    await ending;
    assert.deepEqual(wronged, []);
  });

  await t.test('where one is killed, its clients go to the other and have missed nothing', async () => {
    await cluster.start('a');
    const killed = Date.now();
    await cluster.end('b', 'SIGKILL');
    await change('PUT', `${role}/permissions/c:after-the-kill`);
    await change('DELETE', `${role}/permissions/b:while-draining`);
    await all(clients, 'live on the other', isOn('a'));
    t.diagnostic(`all ${CLIENTS} live again ${Date.now() - killed} ms after the kill`);
    await all(clients, 'told of what was given', (client) => client.can('c:after-the-kill'));
    await all(clients, 'and of what was taken', (client) => !client.can('b:while-draining'));
    assert.deepEqual(wronged, []);
  });

  await t.test('a change still arrives at once', async () => {
    await change('PUT', `${role}/permissions/d:at-the-end`);
    await all(clients, 'told', (client) => client.can('d:at-the-end'), 3_000);
    assert.deepEqual(wronged, []);
  });
});

/** Two replicas on one database behind a balancer that gives new connections to those that say they are ready. */

import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startReplica } from '../replica.mjs';

/** Well within the time for which a replica that is about to end goes on accepting. */
const LOOK_EVERY_MS = 50;

export async function startCluster() {
  const folder = await mkdtemp(join(tmpdir(), 'permcast-clients-'));
  const balancer = await startBalancer();
  const replicas = {};
  const start = async (id) => {
    replicas[id] = await startReplica(folder, {
      PERMCAST_ISSUER: balancer.base,
      PERMCAST_REPLICA_ID: id,
      PERMCAST_DRAIN_DELAY: '500ms',
      PERMCAST_DRAIN_SPREAD: '1s',
      PERMCAST_LOG: 'error',
    });
    await balancer.add(port(replicas[id]));
  };
  const stop = async () => {
    for (const replica of Object.values(replicas)) await replica.end('SIGKILL');
    await balancer.stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await start('a');
    await start('b');
  } catch (error) {
    await stop();
    throw error;
  }
  /** Ends a replica by a signal, and waits until it has ended. The balancer notices by itself. */
  const end = async (id, signal) => {
    await replicas[id].end(signal);
    balancer.remove(port(replicas[id]));
  };
  return { base: balancer.base, start, end, stop };
}

const port = (replica) => Number(new URL(replica.base).port);

async function startBalancer() {
  const ports = new Set();
  let ready = [];
  const look = async () => {
    const asked = [...ports].map(async (port) => {
      const answer = await fetch(`http://127.0.0.1:${port}/readyz`, { headers: { connection: 'close' } }).catch(() => {});
      await answer?.arrayBuffer();
      return answer?.ok ? [port] : [];
    });
    ready = (await Promise.all(asked)).flat();
  };
  const looking = setInterval(() => void look(), LOOK_EVERY_MS);
  const sockets = new Set();
  let turn = 0;
  const server = createServer((near) => {
    sockets.add(near);
    near.on('error', () => {}).on('close', () => sockets.delete(near));
    const all = ready;
    const from = turn++;
    const lead = (attempt) => {
      if (attempt === all.length) return near.destroy();
      const far = connect(all[(from + attempt) % all.length], '127.0.0.1');
      far.once('error', () => lead(attempt + 1));
      far.once('connect', () => {
        far.removeAllListeners('error').on('error', () => near.destroy());
        far.on('close', () => near.destroy());
        near.on('close', () => far.destroy());
        near.pipe(far);
        far.pipe(near);
      });
    };
    lead(0);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const add = async (port) => {
    ports.add(port);
    while (!ready.includes(port)) await sleep(LOOK_EVERY_MS);
  };
  const stop = () => {
    clearInterval(looking);
    sockets.forEach((socket) => socket.destroy());
    return new Promise((done) => server.close(done));
  };
  return { add, remove: (port) => ports.delete(port), base: `http://127.0.0.1:${server.address().port}`, stop };
}

/** Two replicas on one database behind a balancer that gives new connections to those that say they are ready. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const BINARY = resolve(process.env['PERMCAST_BIN'] ?? join(import.meta.dirname, '../../target/debug/permcast'));
const READY_WITHIN_MS = 45_000;
/** Well within the time for which a replica that is about to end goes on accepting. */
const LOOK_EVERY_MS = 50;
export const PASSWORD = 'correct horse battery staple';

export async function startCluster() {
  const folder = await mkdtemp(join(tmpdir(), 'permcast-clients-'));
  const balancer = await startBalancer();
  const replicas = {};
  const start = async (id) => {
    replicas[id] = await startReplica(id, folder, balancer.base);
    await balancer.add(replicas[id].port);
  };
  const stop = async () => {
    for (const { child } of Object.values(replicas)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
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
    const { child, port } = replicas[id];
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
    balancer.remove(port);
  };
  return { base: balancer.base, start, end, stop };
}

async function startReplica(id, folder, issuer) {
  const child = spawn(BINARY, ['serve'], {
    cwd: folder,
    env: {
      ...process.env,
      PERMCAST_LISTEN: '127.0.0.1:0',
      PERMCAST_DATABASE_URL: `sqlite://${join(folder, 'permcast.db')}`,
      PERMCAST_ISSUER: issuer,
      PERMCAST_REPLICA_ID: id,
      PERMCAST_DRAIN_DELAY: '500ms',
      PERMCAST_DRAIN_SPREAD: '1s',
      PERMCAST_LOG: 'error',
      PERMCAST_BOOTSTRAP_USER: 'root',
      PERMCAST_BOOTSTRAP_PASSWORD: PASSWORD,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const port = await new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error('it did not come up')), READY_WITHIN_MS);
    child.once('exit', (code) => fail(new Error(`it ended with ${code}`)));
    createInterface({ input: child.stdout }).on('line', (line) => {
      const found = /http:\/\/\S+?:(\d+)/.exec(line);
      if (found === null) return;
      clearTimeout(timer);
      done(Number(found[1]));
    });
  });
  return { child, port };
}

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

/** Runs `permcast demo` by itself: free ports, a folder of its own, gone with the test. */

import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

export interface Replica {
  id: string;
  url: string;
}

export interface Demo {
  replicas: Replica[];
  stop(): Promise<void>;
}

const BINARY = resolve(process.env['PERMCAST_BIN'] ?? join(import.meta.dirname, '../../target/debug/permcast'));
const READY_WITHIN_MS = 45_000;

/** Resolves when every replica answers that it is ready. */
export async function startDemo(): Promise<Demo> {
  const folder = await mkdtemp(join(tmpdir(), 'permcast-e2e-'));
  const child = spawn(BINARY, ['demo', '--listen', '127.0.0.1:0'], {
    cwd: folder,
    env: { ...process.env, PERMCAST_DATABASE_URL: `sqlite://${join(folder, 'demo.db')}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const stop = async () => {
    await ended(child);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    return { replicas: await replicasOf(child), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The lines `replica <id> <url>`, each printed when that replica is ready, until there are as many as the demo has. */
async function replicasOf(child: ChildProcess): Promise<Replica[]> {
  const said: string[] = [];
  const replicas = new Map<string, Replica>();
  await new Promise<void>((done, fail) => {
    const timer = setTimeout(() => fail(new Error(`no replica came up; it said:\n${said.join('\n')}`)), READY_WITHIN_MS);
    const settle = (finish: () => void) => {
      clearTimeout(timer);
      finish();
    };
    child.once('error', (error) => settle(() => fail(error)));
    child.once('exit', (code) => settle(() => fail(new Error(`it ended with ${code}; it said:\n${said.join('\n')}`))));
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) continue;
      createInterface({ input: stream }).on('line', (line) => {
        said.push(line);
        const match = /\breplica\s+(\S+)\s+(http:\/\/\S+)/.exec(line);
        if (match === null) return;
        const url = (match[2] as string).replace(/\/$/, '');
        replicas.set(url, { id: match[1] as string, url });
        void demoSize(url).then((size) => size !== null && replicas.size >= size && settle(done));
      });
    }
  });
  return [...replicas.values()];
}

/** How many replicas the demo itself says that it has. */
async function demoSize(url: string): Promise<number | null> {
  try {
    const demo = (await (await fetch(`${url}/demo.json`)).json()) as { replicas?: unknown[] };
    return demo.replicas?.length ?? null;
  } catch {
    return null;
  }
}

/** Asked to stop first; killed where it does not. */
async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  await new Promise<void>((done) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
    child.once('exit', () => {
      clearTimeout(timer);
      done();
    });
    child.kill('SIGTERM');
  });
}

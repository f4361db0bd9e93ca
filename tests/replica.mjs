/** One process of the program on a port of its own choice, for the tests that are written in JavaScript. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const BINARY = resolve(process.env['PERMCAST_BIN'] ?? join(import.meta.dirname, '../target/debug/permcast'));
const READY_WITHIN_MS = 45_000;
export const OPERATOR = { username: 'root', password: 'correct horse battery staple' };

/** Resolves when it serves the folder's database, with its address. `end` waits until it has ended, by that signal or before. */
export async function startReplica(folder, settings) {
  const child = spawn(BINARY, ['serve'], {
    cwd: folder,
    env: {
      ...process.env,
      PERMCAST_LISTEN: '127.0.0.1:0',
      PERMCAST_DATABASE_URL: `sqlite://${join(folder, 'permcast.db')}`,
      PERMCAST_BOOTSTRAP_USER: OPERATOR.username,
      PERMCAST_BOOTSTRAP_PASSWORD: OPERATOR.password,
      ...settings,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const end = async (signal) => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  };
  try {
    return { base: await address(child), end };
  } catch (error) {
    await end('SIGKILL');
    throw error;
  }
}

/** It says its address once it serves. */
function address(child) {
  return new Promise((done, fail) => {
    const timer = setTimeout(() => fail(new Error('it did not come up')), READY_WITHIN_MS);
    child.once('exit', (code) => {
      clearTimeout(timer);
      fail(new Error(`it ended with ${code}`));
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      const found = /http:\/\/\S+/.exec(line);
      if (found === null) return;
      clearTimeout(timer);
      done(found[0].replace(/\/$/, ''));
    });
  });
}

/** One call with the user's token: renews a stale one and tries again once, and waits as the server asks. */

import type { Api } from './api.ts';
import { fullJitterMs, retryAfterMs } from './backoff.ts';
import { Timers, type Environment } from './environment.ts';
import { challengeOf, SignedOutError, TimeoutError } from './errors.ts';
import type { Session } from './session.ts';
import type { Tuning } from './tuning.ts';

export interface CallWorld {
  environment: Environment;
  tuning: Tuning;
  api: Api;
  session(): Session;
  over(session: Session): void;
}

/** Sending these twice does what sending them once does. */
const REPEATABLE = new Set(['GET', 'HEAD', 'PUT', 'DELETE']);

/** `timeoutMs` null: a stream, which may take for ever. */
export async function authorised(
  world: CallWorld,
  path: string,
  init: RequestInit,
  timeoutMs: number | null,
): Promise<Response> {
  const timers = new Timers<'deadline' | 'pause'>(world.environment);
  const abort = new AbortController();
  const cancel = () => abort.abort(init.signal?.reason);
  if (init.signal?.aborted) cancel();
  init.signal?.addEventListener('abort', cancel);
  if (timeoutMs !== null) timers.set('deadline', timeoutMs, () => abort.abort(new TimeoutError(timeoutMs)));
  try {
    return await attempts(world, path, { ...init, signal: abort.signal }, abort.signal, timers);
  } finally {
    timers.clearAll();
    // A stream goes on after its head has come, and must still be cancellable.
    if (timeoutMs !== null) init.signal?.removeEventListener('abort', cancel);
  }
}

async function attempts(
  world: CallWorld,
  path: string,
  init: RequestInit,
  signal: AbortSignal,
  timers: Timers<'deadline' | 'pause'>,
): Promise<Response> {
  const { environment, tuning } = world;
  const session = world.session();
  const repeatable = REPEATABLE.has((init.method ?? 'GET').toUpperCase());
  let renewed = false;
  for (let retries = 0; ; ) {
    const token = await unless(signal, session.token());
    const headers = new Headers(init.headers);
    headers.set('authorization', `Bearer ${token}`);
    const response = await unless(signal, world.api.send(path, { ...init, headers }));
    if (response.status === 401) {
      const challenge = challengeOf(response.headers.get('www-authenticate'));
      if (challenge.kind === 'ended') {
        world.over(session);
        throw new SignedOutError();
      }
      if (renewed) return response;
      renewed = true;
      if (challenge.kind === 'stale') session.told(challenge.pv, 'refused');
      else await unless(signal, session.refused(token));
      continue;
    }
    const busy = response.status === 429 || (response.status === 503 && repeatable);
    const waitMs = busy ? retryAfterMs(response.headers.get('retry-after'), environment.now()) : null;
    if (waitMs === null || retries >= tuning.requestRetries) return response;
    const jitterMs = fullJitterMs(retries, tuning.backoffBaseMs, tuning.backoffCapMs, environment.random());
    retries += 1;
    await unless(signal, new Promise<void>((resolve) => timers.set('pause', waitMs + jitterMs, resolve)));
  }
}

/** The promise, or the abort if that comes first. What is shared with others is not itself aborted. */
function unless<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const aborted = () => reject(signal.reason);
    if (signal.aborted) {
      promise.catch(() => undefined);
      return aborted();
    }
    signal.addEventListener('abort', aborted, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', aborted));
  });
}

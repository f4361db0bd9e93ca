/** Where no socket passes: asks `/v1/me/freshness`, which the server answers from memory alone. */

import { retryAfterMs } from './backoff.ts';
import { Timers, type Environment } from './environment.ts';
import { challengeOf } from './errors.ts';
import type { Tuning } from './tuning.ts';
import { isVersion, type Version } from './version.ts';

export interface PollerWorld {
  /** A call with the current token, stale or not. */
  ask(headers: Record<string, string>): Promise<Response>;
  stale(needs: Version): void;
  /** The token is no longer accepted. */
  refused(): void;
  over(): void;
}

type Polling = { kind: 'resting' } | { kind: 'polling'; etag: string | null };

export class Poller {
  readonly #environment: Environment;
  readonly #tuning: Tuning;
  readonly #world: PollerWorld;
  readonly #timers: Timers<'poll'>;
  #state: Polling = { kind: 'resting' };

  constructor(environment: Environment, tuning: Tuning, world: PollerWorld) {
    this.#environment = environment;
    this.#tuning = tuning;
    this.#world = world;
    this.#timers = new Timers(environment);
  }

  set(wanted: boolean): void {
    if (wanted === (this.#state.kind === 'polling')) return;
    this.#timers.clearAll();
    this.#state = wanted ? { kind: 'polling', etag: null } : { kind: 'resting' };
    if (wanted) void this.#poll(this.#state);
  }

  async #poll(run: Polling): Promise<void> {
    if (run.kind !== 'polling') return;
    let waitMs: number | null = null;
    try {
      const response = await this.#world.ask(run.etag === null ? {} : { 'if-none-match': run.etag });
      if (this.#state !== run) return;
      waitMs = retryAfterMs(response.headers.get('retry-after'), this.#environment.now());
      if (response.status === 200) {
        const body = (await response.json()) as { pv?: unknown; stale?: unknown };
        if (this.#state !== run) return;
        run.etag = response.headers.get('etag');
        if (body.stale === true && isVersion(body.pv)) this.#world.stale(body.pv);
      } else if (response.status === 401) {
        const challenge = challengeOf(response.headers.get('www-authenticate'));
        if (challenge.kind === 'ended') return this.#world.over();
        this.#world.refused();
      }
    } catch {
      // No answer: the next turn asks again.
    }
    if (this.#state !== run) return;
    // Half to one and a half of the interval, so that clients do not ask in step.
    const jittered = this.#tuning.pollIntervalMs * (0.5 + this.#environment.random());
    this.#timers.set('poll', Math.max(jittered, waitMs ?? 0), () => void this.#poll(run));
  }
}

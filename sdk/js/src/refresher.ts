/** Renews the credentials, one flight at a time, until it succeeds or the session is over. */

import type { Api, Credentials } from './api.ts';
import { fullJitterMs } from './backoff.ts';
import { Timers, type Environment } from './environment.ts';
import { ProblemError, SignedOutError } from './errors.ts';
import type { Tuning } from './tuning.ts';
import { newer, reaches, type Version } from './version.ts';

export interface RefresherEvents {
  started(): void;
  /** `final`: nobody has asked for more meanwhile. */
  renewed(credentials: Credentials, final: boolean): void;
  /** The refresh token is no longer good. */
  over(): void;
}

export class Refresher {
  readonly #environment: Environment;
  readonly #tuning: Tuning;
  readonly #api: Api;
  readonly #events: RefresherEvents;
  readonly #timers: Timers<'retry'>;
  readonly #stop = new AbortController();
  #credentials: Credentials;
  #flight: Promise<Credentials> | null = null;
  /** The version that the flight must reach. */
  #wanted: Version | null = null;
  #pausing: { end: () => void; mayHurry: boolean } | null = null;

  constructor(environment: Environment, tuning: Tuning, api: Api, credentials: Credentials, events: RefresherEvents) {
    this.#environment = environment;
    this.#tuning = tuning;
    this.#api = api;
    this.#events = events;
    this.#credentials = credentials;
    this.#timers = new Timers(environment);
  }

  get credentials(): Credentials {
    return this.#credentials;
  }

  /** Everybody who asks while a flight is in the air joins it; one who needs more than it carries raises its goal. */
  refresh(atLeast: Version | null): Promise<Credentials> {
    if (this.#stop.signal.aborted) return Promise.reject(new SignedOutError());
    if (atLeast !== null) this.#wanted = newer(this.#wanted, atLeast);
    if (this.#flight === null) {
      this.#events.started();
      this.#flight = this.#fly().finally(() => {
        this.#flight = null;
        this.#wanted = null;
      });
      this.#flight.catch(() => undefined);
    }
    return this.#flight;
  }

  /** The network is back or the machine woke: no reason to wait longer. */
  nudge(): void {
    if (this.#pausing?.mayHurry) this.#pausing.end();
  }

  stop(): void {
    this.#stop.abort(new SignedOutError());
    this.#pausing?.end();
  }

  async #fly(): Promise<Credentials> {
    const { signal } = this.#stop;
    for (let attempt = 0; ; ) {
      const wanted = this.#wanted;
      try {
        const credentials = await this.#api.refresh(this.#credentials.refreshToken, wanted, signal);
        if (signal.aborted) throw new SignedOutError();
        this.#credentials = credentials;
        const more = this.#wanted;
        const final = more === wanted || more === null || reaches(credentials.reached, more);
        this.#events.renewed(credentials, final);
        if (final) return credentials;
      } catch (error) {
        if (signal.aborted) throw new SignedOutError();
        const refused = error instanceof ProblemError ? error : null;
        if (refused?.status === 412) {
          // The log was begun anew: what we were told of belongs to another epoch.
          if (this.#wanted === wanted) this.#wanted = null;
        } else if (refused !== null && refused.status < 500 && refused.status !== 408 && refused.status !== 429) {
          this.#events.over();
          throw new SignedOutError();
        }
        await this.#pause(attempt, refused?.retryAfterMs ?? null);
        attempt += 1;
      }
    }
  }

  async #pause(attempt: number, retryAfterMs: number | null): Promise<void> {
    const { backoffBaseMs, backoffCapMs } = this.#tuning;
    const jitter = fullJitterMs(attempt, backoffBaseMs, backoffCapMs, this.#environment.random());
    await new Promise<void>((resolve) => {
      const end = () => {
        this.#timers.clear('retry');
        this.#pausing = null;
        resolve();
      };
      this.#timers.set('retry', (retryAfterMs ?? 0) + jitter, end);
      // What the server asked for is kept whatever wakes us; only our own backoff may be cut short.
      this.#pausing = { end, mayHurry: retryAfterMs === null };
    });
    if (this.#stop.signal.aborted) throw new SignedOutError();
  }
}

/** Between being told of a change and holding a token that knows it: draws the delay once, and keeps it. */

import { Timers, type Environment } from './environment.ts';
import type { Freshness } from './state.ts';
import { newer, type Version } from './version.ts';

export class Staleness {
  readonly #environment: Environment;
  readonly #refresh: (needs: Version) => void;
  readonly #timers: Timers<'refresh'>;
  #state: Freshness = { kind: 'fresh' };

  constructor(environment: Environment, refresh: (needs: Version) => void) {
    this.#environment = environment;
    this.#refresh = refresh;
    this.#timers = new Timers(environment);
  }

  get state(): Freshness {
    return this.#state;
  }

  /** The delay that would hold if `withinMs` were told now: one drawn earlier is never put off. */
  draw(withinMs: number): number {
    const drawnMs = this.#environment.random() * withinMs;
    switch (this.#state.kind) {
      case 'fresh':
        return drawnMs;
      case 'due':
        return Math.max(0, Math.min(drawnMs, this.#state.refreshAt - this.#environment.now()));
      case 'refreshing':
        return 0;
    }
  }

  told(needs: Version, delayMs: number): void {
    if (this.#state.kind === 'refreshing') {
      this.#state = { kind: 'refreshing', needs: newer(this.#state.needs, needs) };
      return this.#refresh(needs);
    }
    const former = this.#state.kind === 'due' ? this.#state.needs : null;
    this.#state = { kind: 'due', needs: newer(former, needs), refreshAt: this.#environment.now() + delayMs };
    if (delayMs === 0) this.hurry();
    else this.#timers.set('refresh', delayMs, () => this.hurry());
  }

  /** Somebody needs the truth now, or the time has come. */
  hurry(): void {
    if (this.#state.kind !== 'due') return;
    this.#refresh(this.#state.needs);
  }

  /** A time that passed while the machine slept. */
  woke(): void {
    if (this.#state.kind === 'due' && this.#state.refreshAt <= this.#environment.now()) this.hurry();
  }

  refreshing(): void {
    this.#timers.clear('refresh');
    this.#state = { kind: 'refreshing', needs: this.#state.kind === 'fresh' ? null : this.#state.needs };
  }

  refreshed(): void {
    this.#state = { kind: 'fresh' };
  }

  stop(): void {
    this.#timers.clearAll();
  }
}

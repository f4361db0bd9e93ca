/** Follows each change from the telling to the accepted token. */

import type { Environment } from './environment.ts';
import type { Trace } from './state.ts';
import { reaches, type Version } from './version.ts';

/** Traces still under way; the oldest go first, so that a server that never confirms costs nothing. */
const OPEN_MAX = 64;

interface Open {
  trace: Trace;
  startedAt: number;
}

export class Traces {
  readonly #environment: Environment;
  readonly #emit: (trace: Trace) => void;
  #open: Open[] = [];

  constructor(environment: Environment, emit: (trace: Trace) => void) {
    this.#environment = environment;
    this.#emit = emit;
  }

  told(told: Pick<Trace, 'pv' | 'via' | 'reason' | 'committedAt' | 'drawnMs'>): void {
    const trace: Trace = {
      ...told,
      toldAt: this.#environment.now(),
      refreshStartedMs: null,
      refreshedMs: null,
      acceptedMs: null,
    };
    this.#open.push({ trace, startedAt: this.#environment.elapsed() });
    if (this.#open.length > OPEN_MAX) this.#open.shift();
    this.#emit(trace);
  }

  refreshStarted(): void {
    this.#advance((trace, ms) => (trace.refreshStartedMs === null ? { ...trace, refreshStartedMs: ms } : trace));
  }

  refreshed(reached: Version): void {
    this.#advance((trace, ms) =>
      trace.refreshedMs === null && reaches(reached, trace.pv) ? { ...trace, refreshedMs: ms } : trace,
    );
  }

  accepted(reached: Version): void {
    this.#advance((trace, ms) =>
      trace.refreshedMs !== null && reaches(reached, trace.pv) ? { ...trace, acceptedMs: ms } : trace,
    );
    this.#open = this.#open.filter(({ trace }) => trace.acceptedMs === null);
  }

  #advance(step: (trace: Trace, ms: number) => Trace): void {
    for (const open of this.#open) {
      const next = step(open.trace, this.#environment.elapsed() - open.startedAt);
      if (next === open.trace) continue;
      open.trace = next;
      this.#emit(next);
    }
  }
}

/** Time that moves only when a test says so. */

declare const setImmediate: (callback: () => void) => void;

interface Timer {
  at: number;
  order: number;
  callback: () => void;
}

/** Lets everything that waits for nothing but promises run to its end. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 6; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve));
}

export class FakeClock {
  #now = Date.parse('2030-01-01T00:00:00Z');
  #order = 0;
  #timers = new Set<Timer>();

  get now(): number {
    return this.#now;
  }

  get pending(): number {
    return this.#timers.size;
  }

  timer(delayMs: number, callback: () => void): () => void {
    const timer = { at: this.#now + Math.max(0, delayMs), order: (this.#order += 1), callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Awake: every timer fires in its turn. */
  async advance(ms: number): Promise<void> {
    await settle();
    const end = this.#now + ms;
    for (;;) {
      const next = [...this.#timers].sort((a, b) => a.at - b.at || a.order - b.order)[0];
      if (next === undefined || next.at > end) break;
      this.#timers.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.callback();
      await settle();
    }
    this.#now = end;
    await settle();
  }

  /** Asleep: the wall clock goes on, the timers do not. */
  sleep(ms: number): void {
    this.#now += ms;
    for (const timer of this.#timers) timer.at += ms;
  }
}

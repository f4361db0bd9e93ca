/** All that the SDK takes from the world around it. Tests bring their own; nothing here runs at import. */

export interface SocketLike {
  onopen: ((event: never) => unknown) | null;
  onmessage: ((event: never) => unknown) | null;
  onclose: ((event: never) => unknown) | null;
  onerror: ((event: never) => unknown) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

export type NetworkEvent = 'online' | 'offline' | 'visible' | 'hidden';

export interface Network {
  online(): boolean;
  /** Returns what ends the subscription. */
  subscribe(listener: (event: NetworkEvent) => void): () => void;
}

export interface Environment {
  /** The wall clock in milliseconds. It goes on while the machine sleeps. */
  now(): number;
  /** A clock for measured durations, with fractions of a millisecond. */
  elapsed(): number;
  /** Uniform in [0, 1). */
  random(): number;
  /** Calls back once; returns what cancels it. */
  timer(delayMs: number, callback: () => void): () => void;
  fetch(url: string, init: RequestInit): Promise<Response>;
  socket(url: string, protocols: string[]): SocketLike;
  network: Network;
}

/** The longest delay that a browser's timer takes; a longer one would fire at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** The browser's own (and Node's, as far as it goes). */
export function browserEnvironment(): Environment {
  return {
    now: () => Date.now(),
    elapsed: () => performance.now(),
    random: () => Math.random(),
    timer(delayMs, callback) {
      const id = setTimeout(callback, Math.min(Math.max(0, delayMs), TIMER_MAX_MS));
      return () => clearTimeout(id);
    },
    fetch: (url, init) => fetch(url, init),
    socket: (url, protocols) => new WebSocket(url, protocols) as unknown as SocketLike,
    network: {
      online: () => typeof navigator === 'undefined' || navigator.onLine !== false,
      subscribe(listener) {
        if (typeof window === 'undefined') return () => undefined;
        const online = () => listener('online');
        const offline = () => listener('offline');
        const visibility = () => listener(document.visibilityState === 'visible' ? 'visible' : 'hidden');
        window.addEventListener('online', online);
        window.addEventListener('offline', offline);
        document.addEventListener('visibilitychange', visibility);
        return () => {
          window.removeEventListener('online', online);
          window.removeEventListener('offline', offline);
          document.removeEventListener('visibilitychange', visibility);
        };
      },
    },
  };
}

/** Named timers: setting one anew replaces it, and all can be dropped at once. */
export class Timers<Name extends string> {
  readonly #environment: Environment;
  readonly #running = new Map<Name, () => void>();

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  set(name: Name, delayMs: number, callback: () => void): void {
    this.clear(name);
    const cancel = this.#environment.timer(delayMs, () => {
      this.#running.delete(name);
      callback();
    });
    this.#running.set(name, cancel);
  }

  clear(name: Name): void {
    this.#running.get(name)?.();
    this.#running.delete(name);
  }

  clearAll(): void {
    for (const name of [...this.#running.keys()]) this.clear(name);
  }
}

/** The socket: opens it, keeps it, and comes back after each way in which it can end. */

import { fullJitterMs } from './backoff.ts';
import { closeRule } from './close-codes.ts';
import { Timers, type Environment, type SocketLike } from './environment.ts';
import { decode, encode, SUBPROTOCOL, type ClientMessage, type ServerMessage } from './protocol.ts';
import type { Link as LinkState } from './state.ts';
import type { Tuning } from './tuning.ts';

export interface LinkWorld {
  url: string;
  /** A token that has not expired, refreshed first where needed. */
  token(): Promise<string>;
  /** The server would not take the last one. */
  tokenRefused(): void;
  message(message: ServerMessage): void;
  over(): void;
  changed(): void;
}

type TimerName = 'connect' | 'retry' | 'watchdog' | 'probe' | 'stable';

export class Link {
  readonly #environment: Environment;
  readonly #tuning: Tuning;
  readonly #world: LinkWorld;
  readonly #timers: Timers<TimerName>;
  #state: LinkState = { kind: 'off' };
  #socket: SocketLike | null = null;

  constructor(environment: Environment, tuning: Tuning, world: LinkWorld) {
    this.#environment = environment;
    this.#tuning = tuning;
    this.#world = world;
    this.#timers = new Timers(environment);
  }

  get state(): LinkState {
    return this.#state;
  }

  start(): void {
    if (this.#state.kind === 'off') void this.#connect(0);
  }

  stop(): void {
    this.#drop(1000);
    this.#to({ kind: 'off' });
  }

  /** The socket learns of every new token, whatever it was renewed for. */
  renewed(token: string): void {
    if (this.#state.kind === 'live' || this.#state.kind === 'draining') this.#send({ type: 'refresh', token });
  }

  /** The network is back, the machine woke, or (`here`) the user looks at the tab again. */
  nudge(here: boolean): void {
    switch (this.#state.kind) {
      case 'offline':
      case 'waiting':
        return this.#wait(this.#state.attempt, this.#environment.random() * this.#tuning.backoffBaseMs);
      case 'polling':
        if (this.#state.why === 'blocked' || (here && this.#state.why === 'displaced')) {
          void this.#connect(this.#state.attempt);
        }
        return;
      case 'live':
        return this.#probe();
      default:
        return;
    }
  }

  offline(): void {
    // A browser may be wrong about this: a live connection is left to prove itself.
    if (this.#state.kind === 'live') this.#probe();
    else if (this.#state.kind === 'waiting') this.#wait(this.#state.attempt, 0);
  }

  async #connect(attempt: number): Promise<void> {
    this.#drop(1000);
    this.#to({ kind: 'connecting', attempt });
    let token: string;
    try {
      token = await this.#world.token();
    } catch {
      // The session ended meanwhile: whoever ended it stops the link.
      return;
    }
    if (this.#state.kind !== 'connecting') return;
    let socket: SocketLike;
    try {
      socket = this.#environment.socket(this.#world.url, [SUBPROTOCOL]);
    } catch {
      this.#closed(1006);
      return;
    }
    this.#socket = socket;
    this.#timers.set('connect', this.#tuning.connectTimeoutMs, () => this.#lost());
    socket.onopen = () => {
      // What is wrong with an open socket is said by the code it closes with.
      socket.onerror = () => undefined;
      this.#send({ type: 'hello', token });
    };
    socket.onmessage = (event: { data: unknown }) => this.#frame(decode(event.data));
    socket.onclose = (event: { code: number }) => this.#closed(event.code);
    // Not every platform says that a socket that was refused has closed, too: Node 20 does not.
    socket.onerror = () => this.#closed(1006);
  }

  #frame(message: ServerMessage | null): void {
    this.#timers.clear('probe');
    this.#watch();
    if (message === null) return;
    if (message.type === 'welcome') {
      const attempt = this.#attempt();
      this.#timers.clear('connect');
      const { connection, replica, heartbeatMs } = message;
      this.#to({ kind: 'live', attempt, connection, replica, heartbeatMs });
      this.#watch();
      this.#timers.set('stable', this.#tuning.stableAfterMs, () => {
        if (this.#state.kind === 'live') this.#to({ ...this.#state, attempt: 0 });
      });
    } else if (message.type === 'draining' && this.#state.kind === 'live') {
      const { attempt, replica } = this.#state;
      this.#to({ kind: 'draining', attempt, replica, reconnectWithinMs: message.reconnectWithinMs });
    }
    this.#world.message(message);
  }

  #closed(code: number): void {
    const former = this.#state;
    if (former.kind === 'off') return;
    const attempt = this.#attempt();
    this.#drop(1000);
    switch (closeRule(code)) {
      case 'signed_out':
        this.#to({ kind: 'off' });
        return this.#world.over();
      case 'spread': {
        const withinMs = former.kind === 'draining' ? former.reconnectWithinMs : this.#tuning.backoffBaseMs;
        return this.#wait(attempt, this.#environment.random() * withinMs);
      }
      case 'refresh':
        this.#world.tokenRefused();
        return this.#retry(attempt + 1);
      case 'displaced': {
        const waitMs = this.#tuning.displacedWaitMs * (1 + this.#environment.random());
        return this.#poll(attempt, 'displaced', waitMs);
      }
      case 'poll':
        return this.#to({ kind: 'polling', attempt, why: 'refused', retryAt: null });
      case 'backoff':
        return this.#retry(attempt + 1);
    }
  }

  /** Nothing comes any more; the browser may take minutes to notice. */
  #lost(): void {
    this.#closed(1006);
  }

  #retry(attempt: number): void {
    const { backoffBaseMs, backoffCapMs, attemptsBeforePolling } = this.#tuning;
    const delayMs = fullJitterMs(attempt - 1, backoffBaseMs, backoffCapMs, this.#environment.random());
    if (attempt >= attemptsBeforePolling) this.#poll(attempt, 'blocked', delayMs);
    else this.#wait(attempt, delayMs);
  }

  #wait(attempt: number, delayMs: number): void {
    if (!this.#environment.network.online()) {
      this.#timers.clear('retry');
      return this.#to({ kind: 'offline', attempt });
    }
    this.#to({ kind: 'waiting', attempt, retryAt: this.#environment.now() + delayMs });
    this.#timers.set('retry', delayMs, () => void this.#connect(attempt));
  }

  #poll(attempt: number, why: 'blocked' | 'displaced', delayMs: number): void {
    this.#to({ kind: 'polling', attempt, why, retryAt: this.#environment.now() + delayMs });
    this.#timers.set('retry', delayMs, () => void this.#connect(attempt));
  }

  #watch(): void {
    if (this.#state.kind !== 'live' || this.#state.heartbeatMs === 0) return;
    this.#timers.set('watchdog', this.#state.heartbeatMs * this.#tuning.heartbeatsMissed, () => this.#lost());
  }

  #probe(): void {
    this.#send({ type: 'ping' });
    this.#timers.set('probe', this.#tuning.probeTimeoutMs, () => this.#lost());
  }

  #attempt(): number {
    return this.#state.kind === 'off' ? 0 : this.#state.attempt;
  }

  #send(message: ClientMessage): void {
    try {
      this.#socket?.send(encode(message));
    } catch {
      this.#lost();
    }
  }

  /** Lets go of the socket at once: its own close event may come much later. */
  #drop(code: number): void {
    this.#timers.clearAll();
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
    try {
      socket.close(code);
    } catch {
      // It was closed already.
    }
  }

  #to(state: LinkState): void {
    this.#state = state;
    this.#world.changed();
  }
}

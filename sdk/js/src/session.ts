/** One signed-in session: its credentials, its socket, and how fresh it is. Made at sign-in, thrown away at its end. */

import type { Api, Credentials } from './api.ts';
import { Timers, type Environment } from './environment.ts';
import { Link } from './link.ts';
import { Poller } from './poller.ts';
import type { ServerMessage } from './protocol.ts';
import { Refresher } from './refresher.ts';
import { Staleness } from './staleness.ts';
import type { Lock, SignedOutReason, State, Trace } from './state.ts';
import { Traces } from './traces.ts';
import type { Tuning } from './tuning.ts';
import { reaches, type Version } from './version.ts';

export interface SessionWorld {
  changed(): void;
  trace(trace: Trace): void;
  over(reason: SignedOutReason): void;
}

export interface SessionOptions {
  environment: Environment;
  tuning: Tuning;
  api: Api;
  socketUrl: string;
  credentials: Credentials;
  world: SessionWorld;
}

/** Two renewals are never closer than this, whatever lives the server gives its tokens. */
const RENEWAL_PAUSE_MS = 1_000;
/** A token with less than this share of the longest life seen has been cut short. */
const CUT_SHORT_SHARE = 0.9;

type TimerName = 'renew' | 'tick' | 'unlock';

export class Session {
  readonly #environment: Environment;
  readonly #tuning: Tuning;
  readonly #world: SessionWorld;
  readonly #timers: Timers<TimerName>;
  readonly #refresher: Refresher;
  readonly #staleness: Staleness;
  readonly #traces: Traces;
  readonly #link: Link;
  readonly #poller: Poller;
  readonly #unsubscribe: () => void;
  #lock: Lock = { kind: 'open' };
  /** A token that some server would not take, though by our clock it should be good. */
  #refusedToken: string | null = null;
  #longestLifetimeMs = 0;

  constructor({ environment, tuning, api, socketUrl, credentials, world }: SessionOptions) {
    this.#environment = environment;
    this.#tuning = tuning;
    this.#world = world;
    this.#timers = new Timers(environment);
    this.#traces = new Traces(environment, (trace) => world.trace(trace));
    this.#refresher = new Refresher(environment, tuning, api, credentials, {
      started: () => {
        this.#staleness.refreshing();
        this.#traces.refreshStarted();
        world.changed();
      },
      renewed: (next, final) => this.#renewed(next, final),
      over: () => world.over('expired'),
    });
    this.#staleness = new Staleness(environment, (needs) => void this.#refresher.refresh(needs).catch(() => undefined));
    this.#poller = new Poller(environment, tuning, {
      ask: (headers) =>
        api.send('/v1/me/freshness', {
          headers: { ...headers, authorization: `Bearer ${this.credentials.accessToken}` },
        }),
      stale: (needs) => this.told(needs, 'poll'),
      refused: () => void this.refresh(null).catch(() => undefined),
      over: () => world.over('signed_out'),
    });
    this.#link = new Link(environment, tuning, {
      url: socketUrl,
      token: () => this.#unexpired(),
      tokenRefused: () => {
        this.#refusedToken = this.credentials.accessToken;
      },
      message: (message) => this.#message(message),
      over: () => world.over('signed_out'),
      changed: () => this.#linkChanged(),
    });
    this.#unsubscribe = environment.network.subscribe((event) => {
      if (event === 'offline') this.#link.offline();
      else if (event !== 'hidden') this.#woke(event === 'visible');
    });
    this.#planRenewal();
    this.#tick();
  }

  /** Opens the socket. */
  start(): void {
    this.#link.start();
  }

  get credentials(): Credentials {
    return this.#refresher.credentials;
  }

  state(): Extract<State, { status: 'signed_in' }> {
    const { claims, roles, permissions, reached, expiresAt } = this.credentials;
    return {
      status: 'signed_in',
      identity: { tenant: claims.tenant, user: claims.user, session: claims.session },
      roles,
      permissions,
      pv: reached,
      expiresAt,
      freshness: this.#staleness.state,
      link: this.#link.state,
      lock: this.#lock,
    };
  }

  /** A token to call with. One that is known to be stale or expired would only be refused: it is renewed first. */
  async token(): Promise<string> {
    this.#staleness.hurry();
    const freshness = this.#staleness.state;
    if (freshness.kind === 'refreshing' && freshness.needs !== null) return (await this.refresh(null)).accessToken;
    return this.#unexpired();
  }

  refresh(atLeast: Version | null): Promise<Credentials> {
    return this.#refresher.refresh(atLeast);
  }

  /** The server would not take `token`; where it has been replaced meanwhile there is nothing to do. */
  async refused(token: string): Promise<void> {
    if (token === this.credentials.accessToken) await this.refresh(null);
  }

  /** Permissions older than `needs` are not good any more. */
  told(needs: Version, via: Trace['via'], push?: Extract<ServerMessage, { type: 'permissions_changed' }>): void {
    if (reaches(this.credentials.reached, needs)) return;
    const drawnMs = this.#staleness.draw(push?.refreshWithinMs ?? 0);
    this.#traces.told({ pv: needs, via, reason: push?.reason ?? null, committedAt: push?.at ?? null, drawnMs });
    this.#staleness.told(needs, drawnMs);
    this.#world.changed();
  }

  stop(): void {
    this.#unsubscribe();
    this.#timers.clearAll();
    this.#staleness.stop();
    this.#poller.set(false);
    this.#refresher.stop();
    this.#link.stop();
  }

  async #unexpired(): Promise<string> {
    const { accessToken, expiresAt } = this.credentials;
    if (expiresAt > this.#environment.now() && accessToken !== this.#refusedToken) return accessToken;
    return (await this.refresh(null)).accessToken;
  }

  #message(message: ServerMessage): void {
    switch (message.type) {
      case 'permissions_changed':
        return this.told(message.pv, 'push', message);
      case 'refreshed':
        return this.#traces.accepted(message.pv);
      case 'token_expiring':
        if (!this.#isCutShort()) this.#renew();
        return;
      case 'session_revoked':
        return this.#world.over(message.reason);
      case 'locked':
        this.#lock = { kind: 'locked', retryAt: this.#environment.now() + message.retryAfterMs };
        return this.#world.changed();
      case 'unlocked':
        this.#timers.set('unlock', this.#environment.random() * message.withinMs, () => {
          this.#lock = { kind: 'open' };
          this.#world.changed();
        });
        return;
      default:
        return;
    }
  }

  #linkChanged(): void {
    const link = this.#link.state;
    const blocked = link.kind === 'connecting' && link.attempt >= this.#tuning.attemptsBeforePolling;
    this.#poller.set(link.kind === 'polling' || blocked);
    this.#world.changed();
  }

  #renewed(next: Credentials, final: boolean): void {
    if (final) this.#staleness.refreshed();
    this.#traces.refreshed(next.reached);
    this.#refusedToken = null;
    this.#planRenewal();
    this.#link.renewed(next.accessToken);
    this.#world.changed();
  }

  /**
   * A token whose life is cut short by a grant that runs out is not renewed early: the next one would end at the
   * same moment, and the one after it too.
   */
  #planRenewal(): void {
    const { expiresAt, lifetimeMs } = this.credentials;
    this.#longestLifetimeMs = Math.max(this.#longestLifetimeMs, lifetimeMs);
    const earlyMs = this.#isCutShort() ? 0 : lifetimeMs * (1 - this.#tuning.renewAtShare);
    const delayMs = Math.max(RENEWAL_PAUSE_MS, expiresAt - earlyMs - this.#environment.now());
    this.#timers.set('renew', delayMs, () => this.#renew());
  }

  #isCutShort(): boolean {
    return this.credentials.lifetimeMs < this.#longestLifetimeMs * CUT_SHORT_SHARE;
  }

  #renew(): void {
    this.refresh(null).catch(() => undefined);
  }

  #tick(): void {
    const due = this.#environment.now() + this.#tuning.clockTickMs;
    this.#timers.set('tick', this.#tuning.clockTickMs, () => {
      if (this.#environment.now() > due + this.#tuning.clockTickMs) this.#woke(false);
      this.#tick();
    });
  }

  #woke(here: boolean): void {
    this.#planRenewal();
    this.#refresher.nudge();
    this.#staleness.woke();
    this.#link.nudge(here);
  }
}

import { Api, type Credentials, type SignIn } from './api.ts';
import { retryAfterMs } from './backoff.ts';
import { authorised, type CallWorld } from './call.ts';
import { browserEnvironment, type Environment } from './environment.ts';
import { ProblemError, problemOf, ProtocolError, SignedOutError } from './errors.ts';
import { eventsOf, type ServerEvent } from './follow.ts';
import { allows } from './permission.ts';
import { Session } from './session.ts';
import type { SignedOutReason, State, Trace } from './state.ts';
import { DEFAULT_TUNING, type Tuning } from './tuning.ts';
import { isVersion, type Version } from './version.ts';

export interface PermcastOptions {
  /** Where permcast answers, without a slash at the end. Default: where the page came from. */
  baseUrl?: string;
  /** Keep the refresh token in an `HttpOnly` cookie, so that a reload stays signed in. Same origin only. */
  cookie?: boolean;
  /** False: no socket and no polling; a change is learned of when a call is refused. */
  realtime?: boolean;
  tuning?: Partial<Tuning>;
  environment?: Partial<Environment>;
}

export interface CallOptions {
  method?: string;
  /** Sent as JSON. */
  json?: unknown;
  headers?: Record<string, string>;
  /** The answer must know this version: what one replica wrote is then read on any. */
  atLeast?: Version;
  /** Answer after the change has reached every replica, or after so many seconds. */
  waitSeconds?: number;
  signal?: AbortSignal;
}

type Phase =
  | { status: 'signed_out'; reason: SignedOutReason }
  | { status: 'signing_in'; abort: AbortController }
  | { status: 'signed_in'; session: Session };

/** A user of permcast in one tab. */
export class PermcastClient {
  readonly #environment: Environment;
  readonly #tuning: Tuning;
  readonly #api: Api;
  readonly #calls: CallWorld;
  readonly #socketUrl: () => string;
  readonly #realtime: boolean;
  readonly #changeListeners = new Set<(state: State) => void>();
  readonly #traceListeners = new Set<(trace: Trace) => void>();
  #phase: Phase = { status: 'signed_out', reason: 'never' };
  #state: State = { status: 'signed_out', reason: 'never' };

  constructor(options: PermcastOptions = {}) {
    const baseUrl = options.baseUrl ?? '';
    this.#environment = { ...browserEnvironment(), ...options.environment };
    this.#tuning = { ...DEFAULT_TUNING, ...options.tuning };
    this.#api = new Api(this.#environment, baseUrl, options.cookie ?? false);
    this.#realtime = options.realtime ?? true;
    this.#socketUrl = () => `${baseUrl || location.origin}/v1/ws`.replace(/^http/, 'ws');
    this.#calls = {
      environment: this.#environment,
      tuning: this.#tuning,
      api: this.#api,
      session: () => this.#session(),
      over: (session) => this.#over(session, 'signed_out'),
    };
  }

  /** The same object until something changes. */
  get state(): State {
    return this.#state;
  }

  /** Whether the user may, as far as this client has been told. The server decides; this is for what to show. */
  can(permission: string): boolean {
    return this.#state.status === 'signed_in' && allows(this.#state.permissions, permission);
  }

  onChange(listener: (state: State) => void): () => void {
    this.#changeListeners.add(listener);
    return () => this.#changeListeners.delete(listener);
  }

  /** Each change of this user's permissions, again at each step of its way. */
  onTrace(listener: (trace: Trace) => void): () => void {
    this.#traceListeners.add(listener);
    return () => this.#traceListeners.delete(listener);
  }

  async signIn(signIn: SignIn): Promise<void> {
    await this.#enter((signal) => this.#api.signIn(signIn, signal));
  }

  /** Goes on with the session of the cookie, if there is one. */
  async resume(): Promise<boolean> {
    try {
      await this.#enter((signal) => this.#api.refresh(null, null, signal));
      return true;
    } catch (error) {
      if (error instanceof ProblemError && error.status < 500) return false;
      throw error;
    }
  }

  async signOut(): Promise<void> {
    const phase = this.#phase;
    if (phase.status === 'signing_in') phase.abort.abort(new SignedOutError());
    if (phase.status !== 'signed_in') return this.#to({ status: 'signed_out', reason: 'signed_out' });
    const { credentials } = phase.session;
    this.#over(phase.session, 'signed_out');
    await this.#api.signOut(credentials);
  }

  /** Reads the permissions anew now, at least as new as `atLeast`. */
  async refresh(atLeast?: Version): Promise<void> {
    await this.#session().refresh(atLeast ?? null);
  }

  /** A call to the server with the user's token. Throws only where no answer came. */
  async fetch(path: string, init: RequestInit = {}): Promise<Response> {
    return authorised(this.#calls, path, init, this.#tuning.requestTimeoutMs);
  }

  /** A call that speaks JSON. Throws a `ProblemError` where the answer is no success. */
  async call<T>(path: string, options: CallOptions = {}): Promise<T> {
    const { json, atLeast, waitSeconds, signal } = options;
    const headers: Record<string, string> = { accept: 'application/json', ...options.headers };
    if (json !== undefined) headers['content-type'] = 'application/json';
    if (atLeast !== undefined) headers['permcast-at-least'] = atLeast;
    if (waitSeconds !== undefined) headers['prefer'] = `wait=${waitSeconds}`;
    const init: RequestInit = { method: options.method ?? 'GET', headers };
    if (json !== undefined) init.body = JSON.stringify(json);
    if (signal !== undefined) init.signal = signal;
    const timeoutMs = this.#tuning.requestTimeoutMs + (waitSeconds ?? 0) * 1_000;
    const response = await authorised(this.#calls, path, init, timeoutMs);
    if (!response.ok) throw await this.#problem(response);
    if (response.status === 204) return undefined as T;
    let body: T;
    try {
      body = (await response.json()) as T;
    } catch (cause) {
      throw new ProtocolError('The answer is not JSON.', cause);
    }
    this.#ownChange(body);
    return body;
  }

  /** Server-sent events below `path`, until the server ends them or `signal` is aborted. */
  async *events(path: string, signal: AbortSignal): AsyncGenerator<ServerEvent> {
    const response = await authorised(this.#calls, path, { headers: { accept: 'text/event-stream' }, signal }, null);
    if (!response.ok) throw await this.#problem(response);
    yield* eventsOf(response);
  }

  async #problem(response: Response): Promise<ProblemError> {
    const waitMs = retryAfterMs(response.headers.get('retry-after'), this.#environment.now());
    return new ProblemError(await problemOf(response), waitMs);
  }

  /** Who alters a role of his own makes his own token stale, and the answer says so. */
  #ownChange(body: unknown): void {
    if (typeof body !== 'object' || body === null || (body as { stale?: unknown }).stale !== true) return;
    const version = (body as { change?: { version?: unknown } | null }).change?.version;
    if (isVersion(version) && this.#phase.status === 'signed_in') this.#phase.session.told(version, 'own');
  }

  async #enter(enter: (signal: AbortSignal) => Promise<Credentials>): Promise<void> {
    if (this.#phase.status === 'signed_in') this.#phase.session.stop();
    if (this.#phase.status === 'signing_in') this.#phase.abort.abort(new SignedOutError());
    const phase: Phase = { status: 'signing_in', abort: new AbortController() };
    const before = this.#phase.status === 'signed_out' ? this.#phase.reason : 'signed_out';
    this.#to(phase);
    try {
      const credentials = await enter(phase.abort.signal);
      if (phase.abort.signal.aborted) throw new SignedOutError();
      const session: Session = new Session({
        environment: this.#environment,
        tuning: this.#tuning,
        api: this.#api,
        socketUrl: this.#realtime ? this.#socketUrl() : '',
        credentials,
        world: {
          changed: () => this.#changed(session),
          trace: (trace) => this.#traceListeners.forEach((listener) => listener(trace)),
          over: (reason) => this.#over(session, reason),
        },
      });
      this.#to({ status: 'signed_in', session });
      if (this.#realtime) session.start();
    } catch (error) {
      // Somebody else signed in, or signed out, meanwhile.
      if (this.#phase !== phase) throw new SignedOutError();
      this.#to({ status: 'signed_out', reason: before });
      throw error;
    }
  }

  #session(): Session {
    if (this.#phase.status !== 'signed_in') throw new SignedOutError();
    return this.#phase.session;
  }

  #over(session: Session, reason: SignedOutReason): void {
    if (this.#phase.status !== 'signed_in' || this.#phase.session !== session) return;
    this.#to({ status: 'signed_out', reason });
    session.stop();
  }

  #changed(session: Session): void {
    if (this.#phase.status === 'signed_in' && this.#phase.session === session) this.#to(this.#phase);
  }

  #to(phase: Phase): void {
    this.#phase = phase;
    switch (phase.status) {
      case 'signed_out':
        this.#state = phase;
        break;
      case 'signing_in':
        this.#state = { status: 'signing_in' };
        break;
      case 'signed_in':
        this.#state = phase.session.state();
    }
    const state = this.#state;
    this.#changeListeners.forEach((listener) => listener(state));
  }
}

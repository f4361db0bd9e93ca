/** A permcast in memory that keeps to the contract's wire, as far as the client sees it. */

import { FakeSocket } from './fake-socket.ts';

interface User {
  password: string;
  roles: string[];
  permissions: string[];
  /** The last change that touched him. */
  touched: number;
}

interface FakeSession {
  id: string;
  user: string;
  refreshToken: string;
  ended: boolean;
}

interface Claims {
  sub: string;
  tenant: string;
  sid: string;
  pv: string;
  exp: number;
  permissions?: string[];
}

export interface Call {
  method: string;
  path: string;
  headers: Headers;
  body: string;
  credentials: string | undefined;
}

type Answer = Response | 'no answer' | (() => Promise<Response>);

export function json(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  const type = status >= 400 ? 'application/problem+json' : 'application/json';
  return new Response(JSON.stringify(body), { status, headers: { 'content-type': type, ...headers } });
}

export function problem(status: number, slug: string, detail: string, headers: Record<string, string> = {}): Response {
  return json(status, { type: `/problems/${slug}`, title: slug, status, detail }, headers);
}

export class FakeServer {
  epoch = 'aaaaaaaa';
  seq = 1;
  tokenLifeSeconds = 900;
  thin = false;
  /** Answers that come before the true ones, by path. */
  readonly scripted = new Map<string, Answer[]>();
  readonly calls: Call[] = [];
  readonly sockets: FakeSocket[] = [];
  /** What happens to one who opens a socket: it opens, it is refused, an error is all that comes, or nothing at all. */
  handshake: 'open' | 'refuse' | 'fail' | 'silent' = 'open';
  heartbeatMs = 20_000;
  refreshWithinMs = 0;
  readonly #users = new Map<string, User>();
  readonly #sessions = new Map<string, FakeSession>();
  readonly #connections = new Map<FakeSocket, Claims>();
  #tokens = 0;
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
    this.#users.set('ben', { password: 'secret', roles: ['editor'], permissions: ['invoices:read'], touched: 1 });
  }

  get pv(): string {
    return `${this.epoch}.${this.seq}`;
  }

  called(path: string): Call[] {
    return this.calls.filter((call) => call.path === path);
  }

  script(path: string, ...answers: Answer[]): void {
    this.scripted.set(path, [...(this.scripted.get(path) ?? []), ...answers]);
  }

  /** The sockets that are open at this end. */
  get open(): FakeSocket[] {
    return this.sockets.filter((socket) => !socket.ended);
  }

  get socket(): FakeSocket {
    const last = this.sockets.at(-1);
    if (last === undefined) throw new Error('no socket was opened');
    return last;
  }

  /** An administrator gives ben these permissions; who is connected is told. */
  grant(permissions: string[], { tell = true } = {}): string {
    this.seq += 1;
    const user = this.#user('ben');
    user.permissions = permissions;
    user.touched = this.seq;
    if (tell) for (const socket of this.#connections.keys()) this.tell(socket);
    return this.pv;
  }

  tell(socket: FakeSocket, refreshWithinMs = this.refreshWithinMs): void {
    const at = new Date(this.#now()).toISOString();
    const reason = refreshWithinMs === 0 ? 'user' : 'role';
    socket.deliver({ type: 'permissions_changed', pv: this.pv, reason, refresh_within_ms: refreshWithinMs, at });
  }

  endSessions(): void {
    for (const session of this.#sessions.values()) session.ended = true;
  }

  restore(epoch: string): void {
    this.epoch = epoch;
    this.seq = 1;
    for (const user of this.#users.values()) user.touched = 1;
  }

  connect(url: string, protocols: string[]): FakeSocket {
    const socket = new FakeSocket(url, protocols, (from, message) => this.#hear(from, message));
    this.sockets.push(socket);
    if (this.handshake === 'open') queueMicrotask(() => socket.open());
    if (this.handshake === 'refuse') queueMicrotask(() => socket.shut(1006));
    if (this.handshake === 'fail') queueMicrotask(() => socket.fail());
    return socket;
  }

  async fetch(url: string, init: RequestInit): Promise<Response> {
    const path = url.replace(/^https?:\/\/[^/]+/, '');
    const call: Call = {
      method: init.method ?? 'GET',
      path,
      headers: new Headers(init.headers),
      body: typeof init.body === 'string' ? init.body : '',
      credentials: init.credentials,
    };
    this.calls.push(call);
    const scripted = this.scripted.get(path)?.shift();
    if (scripted === 'no answer') throw new TypeError('fetch failed');
    if (scripted !== undefined) return typeof scripted === 'function' ? scripted() : scripted;
    if (path === '/v1/login') return this.#login(call);
    if (path === '/oauth/token') return this.#refresh(call);
    const claims = this.#claims(call.headers.get('authorization')?.replace('Bearer ', '') ?? '');
    const refused = this.#refusal(claims, path === '/v1/me/freshness' || path === '/v1/logout');
    if (refused !== null) return refused;
    switch (path) {
      case '/v1/logout':
        return new Response(null, { status: 204 });
      case '/v1/me':
        return json(200, { roles: this.#user('ben').roles, permissions: this.#user('ben').permissions, pv: this.pv });
      case '/v1/me/freshness': {
        const etag = `"${this.pv}"`;
        if (call.headers.get('if-none-match') === etag) return new Response(null, { status: 304, headers: { etag } });
        return json(200, { pv: this.pv, stale: this.#stale(claims as Claims) }, { etag });
      }
      default:
        return json(200, { pv: this.pv });
    }
  }

  #login(call: Call): Response {
    const { username, password, cookie } = JSON.parse(call.body) as Record<string, unknown>;
    if (this.#users.get(username as string)?.password !== password) {
      return problem(401, 'bad-credentials', 'Wrong name or password.');
    }
    const id = `session-${this.#sessions.size + 1}`;
    const session = { id, user: username as string, refreshToken: `${id}-0`, ended: false };
    this.#sessions.set(id, session);
    return this.#tokenResponse(session, cookie === true);
  }

  #refresh(call: Call): Response {
    const token = new URLSearchParams(call.body).get('refresh_token');
    const atLeast = call.headers.get('permcast-at-least');
    if (atLeast !== null) {
      const [epoch, seq] = atLeast.split('.');
      if (epoch !== this.epoch || Number(seq) > this.seq) return problem(412, 'version', 'Another epoch.');
    }
    const session = [...this.#sessions.values()].find(
      (candidate) => token === null || token.startsWith(`${candidate.id}-`),
    );
    if (session === undefined || session.ended) return json(400, { error: 'invalid_grant' });
    session.refreshToken = `${session.id}-${(this.#tokens += 1)}`;
    return this.#tokenResponse(session, token === null);
  }

  #tokenResponse(session: FakeSession, cookie: boolean): Response {
    const user = this.#user(session.user);
    const claims: Claims = {
      sub: `default/${session.user}`,
      tenant: 'default',
      sid: session.id,
      pv: this.pv,
      exp: Math.floor(this.#now() / 1_000) + this.tokenLifeSeconds,
      ...(this.thin ? {} : { permissions: user.permissions, roles: user.roles }),
    };
    const body = { access_token: this.#mint(claims), token_type: 'Bearer', expires_in: this.tokenLifeSeconds };
    return json(200, cookie ? body : { ...body, refresh_token: session.refreshToken });
  }

  #mint(claims: Claims): string {
    const part = (value: unknown) => btoa(JSON.stringify(value));
    return `${part({ typ: 'at+jwt' })}.${part({ ...claims, jti: (this.#tokens += 1) })}.signature`;
  }

  #claims(token: string): Claims | null {
    const payload = token.split('.')[1];
    return payload === undefined ? null : (JSON.parse(atob(payload)) as Claims);
  }

  #stale(claims: Claims): boolean {
    if (claims.permissions === undefined) return false;
    const [epoch, seq] = claims.pv.split('.');
    return epoch !== this.epoch || Number(seq) < this.#user('ben').touched;
  }

  #refusal(claims: Claims | null, takesStale: boolean): Response | null {
    const no = (description: string, more = '') =>
      problem(401, 'unauthorised', description, {
        'www-authenticate': `Bearer error="invalid_token", error_description="${description}"${more}`,
      });
    if (claims === null) return no('no token');
    if (this.#sessions.get(claims.sid)?.ended) return no('session ended');
    if (claims.exp * 1_000 <= this.#now()) return no('token expired');
    if (!takesStale && this.#stale(claims)) return no('permissions changed', `, pv="${this.pv}"`);
    return null;
  }

  #hear(socket: FakeSocket, message: Record<string, unknown>): void {
    const claims = this.#claims(String(message['token'] ?? ''));
    switch (message['type']) {
      case 'ping':
        return socket.deliver({ type: 'heartbeat', pv: this.pv });
      case 'hello':
        if (claims === null || this.#refusal(claims, true) !== null) return socket.shut(4401);
        this.#connections.set(socket, claims);
        socket.deliver({
          type: 'welcome',
          connection: `c${this.sockets.length}`,
          replica: 'a',
          pv: this.pv,
          heartbeat_ms: this.heartbeatMs,
        });
        if (this.#stale(claims)) this.tell(socket);
        return;
      case 'refresh':
        if (claims === null || this.#refusal(claims, true) !== null) return socket.shut(4401);
        this.#connections.set(socket, claims);
        if (this.#stale(claims)) return this.tell(socket);
        return socket.deliver({ type: 'refreshed', pv: claims.pv });
    }
  }

  #user(id: string): User {
    return this.#users.get(id) as User;
  }
}

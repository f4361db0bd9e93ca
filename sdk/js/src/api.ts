/** The calls that make and renew a session. They keep nothing and retry nothing. */

import { retryAfterMs } from './backoff.ts';
import type { Environment } from './environment.ts';
import { NetworkError, ProblemError, problemOf, ProtocolError } from './errors.ts';
import { claimsOf, type Claims } from './jwt.ts';
import { newer, type Version } from './version.ts';

export interface Credentials {
  accessToken: string;
  /** Null where it lives in a cookie. */
  refreshToken: string | null;
  claims: Claims;
  roles: readonly string[];
  permissions: readonly string[];
  /** The version that these permissions are of, at least. */
  reached: Version;
  /** By this machine's clock, so that a wrong one does no harm. */
  expiresAt: number;
  lifetimeMs: number;
}

export interface SignIn {
  username: string;
  password: string;
  tenant?: string;
}

interface TokenResponse {
  access_token?: unknown;
  expires_in?: unknown;
  refresh_token?: unknown;
}

export class Api {
  readonly #environment: Environment;
  readonly #baseUrl: string;
  readonly #cookie: boolean;

  constructor(environment: Environment, baseUrl: string, cookie: boolean) {
    this.#environment = environment;
    this.#baseUrl = baseUrl;
    this.#cookie = cookie;
  }

  /** Any call, without a token and without a retry. Throws where no answer came. */
  async send(path: string, init: RequestInit): Promise<Response> {
    try {
      return await this.#environment.fetch(this.#baseUrl + path, {
        credentials: this.#cookie ? 'same-origin' : 'omit',
        cache: 'no-store',
        ...init,
      });
    } catch (cause) {
      if (init.signal?.aborted) throw init.signal.reason ?? cause;
      throw new NetworkError(cause);
    }
  }

  async signIn(signIn: SignIn, signal: AbortSignal): Promise<Credentials> {
    const response = await this.send('/v1/login', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(this.#cookie ? { ...signIn, cookie: true } : signIn),
      signal,
    });
    return this.#credentials(response, null, null, signal);
  }

  /** `refreshToken` null: the browser sends the cookie. */
  async refresh(refreshToken: string | null, atLeast: Version | null, signal: AbortSignal): Promise<Credentials> {
    const form = new URLSearchParams({ grant_type: 'refresh_token' });
    if (refreshToken !== null) form.set('refresh_token', refreshToken);
    const response = await this.send('/oauth/token', {
      method: 'POST',
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        ...(atLeast === null ? {} : { 'permcast-at-least': atLeast }),
      },
      body: form.toString(),
      signal,
    });
    return this.#credentials(response, refreshToken, atLeast, signal);
  }

  /** Best effort: the client forgets its tokens whether the server hears of it or not. */
  async signOut(credentials: Credentials): Promise<void> {
    const expired = credentials.expiresAt <= this.#environment.now();
    try {
      if (expired && credentials.refreshToken !== null) {
        const form = new URLSearchParams({ token: credentials.refreshToken, token_type_hint: 'refresh_token' });
        await this.send('/oauth/revoke', {
          method: 'POST',
          headers: { 'content-type': 'application/x-www-form-urlencoded' },
          body: form.toString(),
          keepalive: true,
        });
      } else {
        await this.send('/v1/logout', {
          method: 'POST',
          headers: { authorization: `Bearer ${credentials.accessToken}` },
          keepalive: true,
        });
      }
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error;
    }
  }

  async #credentials(
    response: Response,
    formerRefreshToken: string | null,
    atLeast: Version | null,
    signal: AbortSignal,
  ): Promise<Credentials> {
    const body = await this.#json<TokenResponse>(response);
    const { access_token: accessToken, expires_in: expiresIn, refresh_token: next } = body;
    if (typeof accessToken !== 'string' || typeof expiresIn !== 'number') {
      throw new ProtocolError('The token response lacks a member.');
    }
    const claims = claimsOf(accessToken);
    const reached = newer(atLeast, claims.pv);
    const lifetimeMs = expiresIn * 1_000;
    const known = {
      accessToken,
      refreshToken: typeof next === 'string' ? next : this.#cookie ? null : formerRefreshToken,
      claims,
      expiresAt: this.#environment.now() + lifetimeMs,
      lifetimeMs,
    };
    if (claims.permissions !== null) {
      return { ...known, roles: claims.roles, permissions: claims.permissions, reached };
    }
    const me = await this.#me(accessToken, atLeast, signal);
    return { ...known, ...me, reached: newer(reached, me.reached) };
  }

  /** A thin token carries no permissions: they are asked for. */
  async #me(
    accessToken: string,
    atLeast: Version | null,
    signal: AbortSignal,
  ): Promise<Pick<Credentials, 'roles' | 'permissions' | 'reached'>> {
    const response = await this.send('/v1/me', {
      headers: {
        authorization: `Bearer ${accessToken}`,
        ...(atLeast === null ? {} : { 'permcast-at-least': atLeast }),
      },
      signal,
    });
    const me = await this.#json<{ roles: string[]; permissions: string[]; pv: Version }>(response);
    return { roles: me.roles, permissions: me.permissions, reached: me.pv };
  }

  async #json<T>(response: Response): Promise<T> {
    if (!response.ok) {
      const wait = retryAfterMs(response.headers.get('retry-after'), this.#environment.now());
      throw new ProblemError(await problemOf(response), wait);
    }
    try {
      return (await response.json()) as T;
    } catch (cause) {
      throw new ProtocolError('The answer is not JSON.', cause);
    }
  }
}

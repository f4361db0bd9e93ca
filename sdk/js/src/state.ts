/** What the client is doing, as one discriminated union; and what one change of permissions went through here. */

import type { ChangeReason, RevokedReason } from './protocol.ts';
import type { Version } from './version.ts';

export type SignedOutReason =
  /** Nobody has signed in yet. */
  | 'never'
  /** The session could not be refreshed: it ran out, or was ended while this client was away. */
  | 'expired'
  | RevokedReason;

/** Is what `can` says the latest that this client has been told of? */
export type Freshness =
  | { kind: 'fresh' }
  /** Told of a change; the refresh is drawn for `refreshAt` (wall clock, ms). */
  | { kind: 'due'; needs: Version; refreshAt: number }
  | { kind: 'refreshing'; needs: Version | null };

/** The way by which the server reaches this client. `attempt` counts the failures in a row. */
export type Link =
  | { kind: 'off' }
  | { kind: 'offline'; attempt: number }
  | { kind: 'waiting'; attempt: number; retryAt: number }
  | { kind: 'connecting'; attempt: number }
  | { kind: 'live'; attempt: number; connection: string; replica: string; heartbeatMs: number }
  | { kind: 'draining'; attempt: number; replica: string; reconnectWithinMs: number }
  /** No socket: `/v1/me/freshness` is polled. `retryAt` is when a socket is tried again, if at all. */
  | { kind: 'polling'; attempt: number; why: 'blocked' | 'displaced' | 'refused'; retryAt: number | null };

export type Lock = { kind: 'open' } | { kind: 'locked'; retryAt: number };

export interface Identity {
  tenant: string;
  user: string;
  session: string;
}

export type State =
  | { status: 'signed_out'; reason: SignedOutReason }
  | { status: 'signing_in' }
  | {
      status: 'signed_in';
      identity: Identity;
      roles: readonly string[];
      permissions: readonly string[];
      /** The version that the permissions above are of, at least. */
      pv: Version;
      /** When the access token ends (wall clock, ms). */
      expiresAt: number;
      freshness: Freshness;
      link: Link;
      lock: Lock;
    };

/**
 * One change as this client lived it. Times with `At` are of the wall clock in ms, those with `Ms` are measured
 * from `toldAt` with a monotonic clock.
 */
export interface Trace {
  pv: Version;
  /** How the client learned of it. */
  via: 'push' | 'poll' | 'refused' | 'own';
  reason: ChangeReason | null;
  /** When the server says that it happened; null where it did not say. */
  committedAt: string | null;
  toldAt: number;
  /** The delay drawn from what the server allowed. */
  drawnMs: number;
  refreshStartedMs: number | null;
  refreshedMs: number | null;
  /** The server confirmed the new token on the socket. */
  acceptedMs: number | null;
}

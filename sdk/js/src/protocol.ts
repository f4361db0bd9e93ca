/** The messages of the socket, subprotocol `permcast.v1`. Pure: text to types, types to text. */

import { isVersion, type Version } from './version.ts';

export const SUBPROTOCOL = 'permcast.v1';

export type ChangeReason = 'user' | 'role' | 'tenant' | 'everyone';
export type RevokedReason = 'signed_out' | 'suspended' | 'deleted' | 'refresh_reuse' | 'keys_revoked';

export type ServerMessage =
  | { type: 'welcome'; connection: string; replica: string; pv: Version; heartbeatMs: number }
  | { type: 'permissions_changed'; pv: Version; reason: ChangeReason; refreshWithinMs: number; at: string | null }
  | { type: 'refreshed'; pv: Version }
  | { type: 'token_expiring'; expiresInMs: number }
  | { type: 'session_revoked'; reason: RevokedReason }
  | { type: 'draining'; reconnectWithinMs: number }
  | { type: 'locked'; retryAfterMs: number }
  | { type: 'unlocked'; withinMs: number }
  | { type: 'heartbeat'; pv: Version | null }
  | { type: 'error'; code: string; detail: string };

export type ClientMessage = { type: 'hello'; token: string } | { type: 'refresh'; token: string } | { type: 'ping' };

export function encode(message: ClientMessage): string {
  return JSON.stringify(message);
}

/** One frame of the server's; null for what this version does not know, which is to be ignored. */
export function decode(data: unknown): ServerMessage | null {
  if (typeof data !== 'string') return null;
  let frame: Record<string, unknown>;
  try {
    frame = JSON.parse(data) as Record<string, unknown>;
  } catch {
    return null;
  }
  if (typeof frame !== 'object' || frame === null) return null;
  const text = (name: string): string => (typeof frame[name] === 'string' ? (frame[name] as string) : '');
  const count = (name: string, otherwise: number): number => {
    const value = frame[name];
    return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : otherwise;
  };
  const pv = isVersion(frame['pv']) ? frame['pv'] : null;
  switch (frame['type']) {
    case 'welcome':
      if (pv === null) return null;
      return {
        type: 'welcome',
        connection: text('connection'),
        replica: text('replica'),
        pv,
        heartbeatMs: count('heartbeat_ms', 0),
      };
    case 'permissions_changed': {
      if (pv === null) return null;
      const known = ['user', 'role', 'tenant', 'everyone'].includes(text('reason'));
      return {
        type: 'permissions_changed',
        pv,
        reason: known ? (text('reason') as ChangeReason) : 'everyone',
        refreshWithinMs: count('refresh_within_ms', 0),
        at: text('at') || null,
      };
    }
    case 'refreshed':
      return pv === null ? null : { type: 'refreshed', pv };
    case 'token_expiring':
      return { type: 'token_expiring', expiresInMs: count('expires_in_ms', 0) };
    case 'session_revoked':
      return { type: 'session_revoked', reason: text('reason') as RevokedReason };
    case 'draining':
      return { type: 'draining', reconnectWithinMs: count('reconnect_within_ms', 0) };
    case 'locked':
      return { type: 'locked', retryAfterMs: count('retry_after_s', 0) * 1_000 };
    case 'unlocked':
      return { type: 'unlocked', withinMs: count('within_ms', 0) };
    case 'heartbeat':
      return { type: 'heartbeat', pv };
    case 'error':
      return { type: 'error', code: text('code'), detail: text('detail') };
    default:
      return null;
  }
}

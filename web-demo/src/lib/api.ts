/** The admin REST as the console uses it. */

import type { PermcastClient } from '@permcast/client';

export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

export interface User {
  id: string;
  name: string;
  email: string | null;
  kind: 'person' | 'service';
  status: 'active' | 'suspended';
}

export interface Role {
  name: string;
  description: string;
  permissions: string[];
  includes: string[];
}

export interface Grant {
  role?: string;
  permission?: string;
  expires_at: string | null;
}

export interface Access {
  roles: string[];
  permissions: string[];
  pv: string;
  grants?: Grant[];
}

export interface Session {
  id: string;
  created_at: string;
  last_refresh_at: string;
  address: string;
  user_agent: string;
  pv: string;
  /** `null`: a replica did not answer. */
  connected: boolean | null;
}

export interface Change {
  seq: number;
  at: string;
  actor: string;
  kind: string;
  target: string;
  summary: string;
}

export interface Receipt {
  complete: boolean;
  elapsed_ms: number;
  replicas: { id: string; applied: boolean; ms: number | null }[];
  connections: { affected: number; notified: number; refreshed: number };
}

export interface Mutation {
  change: { version: string; seq: number } | null;
  stale?: boolean;
  propagation?: Receipt;
}

const segment = encodeURIComponent;

/** Paths below one tenant. */
export function paths(tenant: string) {
  const base = `/v1/tenants/${segment(tenant)}`;
  return {
    users: `${base}/users`,
    user: (user: string) => `${base}/users/${segment(user)}`,
    access: (user: string) => `${base}/users/${segment(user)}/permissions`,
    userRole: (user: string, role: string) => `${base}/users/${segment(user)}/roles/${segment(role)}`,
    userPermission: (user: string, permission: string) =>
      `${base}/users/${segment(user)}/permissions/${segment(permission)}`,
    sessions: (user: string) => `${base}/users/${segment(user)}/sessions`,
    session: (user: string, session: string) => `${base}/users/${segment(user)}/sessions/${segment(session)}`,
    roles: `${base}/roles`,
    role: (role: string) => `${base}/roles/${segment(role)}`,
    rolePermission: (role: string, permission: string) =>
      `${base}/roles/${segment(role)}/permissions/${segment(permission)}`,
    roleInclude: (role: string, other: string) => `${base}/roles/${segment(role)}/includes/${segment(other)}`,
    changes: `${base}/changes`,
    stream: `${base}/changes/stream`,
    propagation: (seq: number) => `${base}/changes/${seq}/propagation`,
  };
}

export type Paths = ReturnType<typeof paths>;

export function page(path: string, limit: number, cursor: string | null): string {
  const query = new URLSearchParams({ limit: String(limit) });
  if (cursor !== null) query.set('cursor', cursor);
  return `${path}?${query}`;
}

/** Every item of a list that is known to be short, such as the roles of a tenant. */
export async function all<T>(client: PermcastClient, path: string, signal: AbortSignal): Promise<T[]> {
  const items: T[] = [];
  for (let cursor: string | null = null; ; ) {
    const part: Page<T> = await client.call<Page<T>>(page(path, 500, cursor), { signal });
    items.push(...part.items);
    cursor = part.next_cursor;
    if (cursor === null) return items;
  }
}

/** The receipt may stand alone or beside others. */
export async function receiptOf(client: PermcastClient, path: string): Promise<Receipt> {
  const answer = await client.call<Receipt | { propagation: Receipt }>(path);
  return 'propagation' in answer ? answer.propagation : answer;
}

/** Reads an access token's claims. It verifies nothing: the server does, and the client only shows what it was told. */

import { ProtocolError } from './errors.ts';
import { isVersion, type Version } from './version.ts';

export interface Claims {
  tenant: string;
  user: string;
  session: string;
  pv: Version;
  /** Null in a thin token: they must be asked for. */
  permissions: readonly string[] | null;
  roles: readonly string[];
  expSeconds: number;
}

export function claimsOf(token: string): Claims {
  const payload = token.split('.')[1];
  if (payload === undefined) throw new ProtocolError('The access token is not a JWT.');
  let claims: Record<string, unknown>;
  try {
    const binary = atob(payload.replace(/-/g, '+').replace(/_/g, '/'));
    const bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
    claims = JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
  } catch (cause) {
    throw new ProtocolError('The access token cannot be read.', cause);
  }
  const { sub, sid, tenant, pv, exp, roles, permissions } = claims;
  if (typeof sub !== 'string' || typeof tenant !== 'string' || !isVersion(pv) || typeof exp !== 'number') {
    throw new ProtocolError('The access token lacks a claim.');
  }
  return {
    tenant,
    user: sub.startsWith(`${tenant}/`) ? sub.slice(tenant.length + 1) : sub,
    session: typeof sid === 'string' ? sid : '',
    pv,
    permissions: Array.isArray(permissions) && claims['permissions_omitted'] !== true ? (permissions as string[]) : null,
    roles: Array.isArray(roles) ? (roles as string[]) : [],
    expSeconds: exp,
  };
}

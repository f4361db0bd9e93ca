/** Every code with which the server closes a socket, and what the client does then. */

export type CloseRule =
  /** Come back after exponential backoff with full jitter. */
  | 'backoff'
  /** Come back within the time that `draining` named, spread evenly over it. */
  | 'spread'
  /** The token is no longer good: refresh it, then come back. */
  | 'refresh'
  /** The session is over. */
  | 'signed_out'
  /** Another of this user's connections took the place: poll, and come back late or when the user returns. */
  | 'displaced'
  /** What we send is not accepted; sending it again will not help: poll instead. */
  | 'poll';

export const CLOSE_CODES: Readonly<Record<number, { name: string; rule: CloseRule }>> = {
  1000: { name: 'closed', rule: 'backoff' },
  1001: { name: 'going away', rule: 'backoff' },
  1002: { name: 'protocol error', rule: 'poll' },
  1003: { name: 'unsupported data', rule: 'poll' },
  1006: { name: 'connection lost', rule: 'backoff' },
  1007: { name: 'not UTF-8', rule: 'poll' },
  1008: { name: 'policy violation', rule: 'backoff' },
  1009: { name: 'message too big', rule: 'poll' },
  1011: { name: 'server error', rule: 'backoff' },
  1012: { name: 'restart', rule: 'spread' },
  1013: { name: 'try again later', rule: 'backoff' },
  4400: { name: 'bad message', rule: 'poll' },
  4401: { name: 'token refused or expired', rule: 'refresh' },
  4403: { name: 'session over', rule: 'signed_out' },
  4408: { name: 'no hello', rule: 'backoff' },
  4413: { name: 'too large', rule: 'poll' },
  4429: { name: 'too many connections', rule: 'displaced' },
};

export function closeRule(code: number): CloseRule {
  return CLOSE_CODES[code]?.rule ?? 'backoff';
}

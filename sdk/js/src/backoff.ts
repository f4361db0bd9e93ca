/** Waiting before trying again. Pure: the caller brings the randomness. */

/**
 * Exponential backoff with full jitter: uniform between nothing and the doubled base, so that clients that lost
 * the same server at the same moment do not come back together.
 */
export function fullJitterMs(attempt: number, baseMs: number, capMs: number, random: number): number {
  const ceiling = Math.min(capMs, baseMs * 2 ** Math.min(attempt, 30));
  return random * ceiling;
}

/** `Retry-After` as milliseconds from `nowMs`: a number of seconds or a date; null where there is none. */
export function retryAfterMs(header: string | null, nowMs: number): number | null {
  if (header === null || header.trim() === '') return null;
  const seconds = Number(header);
  if (Number.isFinite(seconds)) return Math.max(0, seconds * 1_000);
  const date = Date.parse(header);
  return Number.isNaN(date) ? null : Math.max(0, date - nowMs);
}

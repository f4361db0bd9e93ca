/** Every bound of the client, with its unit and why it is what it is. */

export interface Tuning {
  /** First ceiling of the jittered wait before trying again. */
  backoffBaseMs: number;
  /** Highest ceiling: a server that was down for long sees each client about twice a minute. */
  backoffCapMs: number;
  /** From opening a socket to `welcome`. */
  connectTimeoutMs: number;
  /** A connection that held this long was a good one: the next attempt after it counts as the first. */
  stableAfterMs: number;
  /** Silence of this many heartbeats is a dead connection. */
  heartbeatsMissed: number;
  /** How long a connection that may have died (sleep, change of network) has to answer a ping. */
  probeTimeoutMs: number;
  /** How often the clock is looked at; a gap of more than twice this means that the machine slept. */
  clockTickMs: number;
  /** So many attempts without a `welcome` in a row, and freshness is polled beside them. */
  attemptsBeforePolling: number;
  pollIntervalMs: number;
  /** After 4429: another tab won; this one returns after so long, or when the user returns to it. */
  displacedWaitMs: number;
  /** A token is renewed when this share of its life is over. */
  renewAtShare: number;
  /** The whole of one call, its retries included. */
  requestTimeoutMs: number;
  /** How often a call that was answered 429 or 503 is sent again. */
  requestRetries: number;
}

export const DEFAULT_TUNING: Tuning = {
  backoffBaseMs: 500,
  backoffCapMs: 30_000,
  connectTimeoutMs: 10_000,
  stableAfterMs: 10_000,
  heartbeatsMissed: 2.5,
  probeTimeoutMs: 4_000,
  clockTickMs: 5_000,
  attemptsBeforePolling: 3,
  pollIntervalMs: 5_000,
  displacedWaitMs: 60_000,
  renewAtShare: 0.85,
  requestTimeoutMs: 30_000,
  requestRetries: 3,
};

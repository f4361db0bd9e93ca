/** Everything that the SDK throws. Match on `kind`, or use `instanceof`. */

import type { Version } from './version.ts';

export interface FieldError {
  pointer?: string;
  detail?: string;
}

/** RFC 9457. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail?: string;
  errors?: FieldError[];
}

export class PermcastError extends Error {
  readonly kind: string;

  constructor(kind: string, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.kind = kind;
  }
}

/** The server answered, and the answer is no. */
export class ProblemError extends PermcastError {
  readonly problem: Problem;
  readonly retryAfterMs: number | null;

  constructor(problem: Problem, retryAfterMs: number | null = null) {
    super('problem', problem.detail ?? problem.title);
    this.problem = problem;
    this.retryAfterMs = retryAfterMs;
  }

  get status(): number {
    return this.problem.status;
  }

  /** The last part of the problem's type: `/problems/last-operator` gives `last-operator`. */
  get slug(): string {
    return this.problem.type.split('/').pop() ?? '';
  }
}

/** No answer came: offline, refused, cut off, or blocked by the browser. */
export class NetworkError extends PermcastError {
  constructor(cause: unknown) {
    super('network', 'The server could not be reached.', cause);
  }
}

/** The call took longer than it may. */
export class TimeoutError extends PermcastError {
  constructor(afterMs: number) {
    super('timeout', `No answer within ${afterMs} ms.`);
  }
}

/** There is no session, or it has ended. */
export class SignedOutError extends PermcastError {
  constructor() {
    super('signed_out', 'You are signed out.');
  }
}

/** The server speaks something else than the contract. */
export class ProtocolError extends PermcastError {
  constructor(message: string, cause?: unknown) {
    super('protocol', message, cause);
  }
}

export function isPermcastError(error: unknown): error is PermcastError {
  return error instanceof PermcastError;
}

/** Reads the error out of an answer that is no success: problem+json, an OAuth error, or nothing intelligible. */
export async function problemOf(response: Response): Promise<Problem> {
  const fallback: Problem = {
    type: 'about:blank',
    title: response.statusText || `HTTP ${response.status}`,
    status: response.status,
  };
  let body: Record<string, unknown>;
  try {
    body = (await response.json()) as Record<string, unknown>;
  } catch {
    return fallback;
  }
  if (typeof body !== 'object' || body === null) return fallback;
  if (typeof body['error'] === 'string') {
    const problem: Problem = { ...fallback, type: `oauth/${body['error']}`, title: body['error'] };
    if (typeof body['error_description'] === 'string') problem.detail = body['error_description'];
    return problem;
  }
  const problem: Problem = { ...fallback };
  if (typeof body['type'] === 'string') problem.type = body['type'];
  if (typeof body['title'] === 'string') problem.title = body['title'];
  if (typeof body['detail'] === 'string') problem.detail = body['detail'];
  if (Array.isArray(body['errors'])) problem.errors = body['errors'] as FieldError[];
  return problem;
}

/** What a 401 says about the token. */
export type Challenge =
  | { kind: 'stale'; pv: Version }
  | { kind: 'ended' }
  | { kind: 'refused' };

export function challengeOf(header: string | null): Challenge {
  const field = (name: string): string | null =>
    new RegExp(`(?:^|[\\s,])${name}="([^"]*)"`).exec(header ?? '')?.[1] ?? null;
  const pv = field('pv');
  if (pv !== null) return { kind: 'stale', pv };
  if (field('error_description') === 'session ended') return { kind: 'ended' };
  return { kind: 'refused' };
}

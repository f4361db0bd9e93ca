export { PermcastClient, type CallOptions, type PermcastOptions } from './client.ts';
export type { SignIn } from './api.ts';
export { CLOSE_CODES, closeRule, type CloseRule } from './close-codes.ts';
export type { Environment, Network, NetworkEvent, SocketLike } from './environment.ts';
export {
  isPermcastError,
  NetworkError,
  PermcastError,
  ProblemError,
  ProtocolError,
  SignedOutError,
  TimeoutError,
  type FieldError,
  type Problem,
} from './errors.ts';
export type { ServerEvent } from './follow.ts';
export { allows, covers, isGrant, isPermission } from './permission.ts';
export type { ChangeReason, RevokedReason } from './protocol.ts';
export type { Freshness, Identity, Link, Lock, SignedOutReason, State, Trace } from './state.ts';
export { DEFAULT_TUNING, type Tuning } from './tuning.ts';
export { isVersion, newer, reaches, seqOf, type Version } from './version.ts';

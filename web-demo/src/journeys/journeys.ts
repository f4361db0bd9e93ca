/** The way of each change that this page knows of, put together from what the parties to it report. */

import { seqOf, type Trace, type Version } from '@permcast/client';
import type { Change, Receipt } from '../lib/api.ts';

export interface Journey {
  version: Version;
  title: string;
  actor: string | null;
  /** Wall clock of this page. */
  seenAt: number;
  /** What the server knows: replicas and connections. */
  receipt: Receipt | null;
  /** What users in this page lived, by user. */
  traces: Readonly<Record<string, Trace>>;
}

const KEPT_MAX = 30;

export class Journeys {
  readonly #listeners = new Set<() => void>();
  #list: readonly Journey[] = [];

  /** Newest first; the same array until something changes. */
  get list(): readonly Journey[] {
    return this.#list;
  }

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  committed(version: Version, title: string, actor: string | null, receipt: Receipt | null): void {
    this.#put(version, { title, actor, ...(receipt === null ? {} : { receipt }) });
  }

  receipt(version: Version, receipt: Receipt): void {
    this.#put(version, { receipt });
  }

  /** From the log: somebody else's change, which may have come past the API. */
  logged(epoch: string, change: Change): void {
    const version = `${epoch}.${change.seq}`;
    const known = this.#list.find((journey) => journey.version === version);
    if (known === undefined || known.actor === null) {
      this.#put(version, { title: change.summary || (known?.title ?? ''), actor: change.actor });
    }
  }

  traced(user: string, trace: Trace): void {
    const known = this.#list.find((journey) => journey.version === trace.pv);
    this.#put(trace.pv, {
      traces: { ...known?.traces, [user]: trace },
      ...(known === undefined ? { title: `Permissions of ${user} changed` } : {}),
    });
  }

  #put(version: Version, news: Partial<Journey>): void {
    const known = this.#list.find((journey) => journey.version === version);
    const journey: Journey = {
      ...(known ?? { version, title: '', actor: null, seenAt: Date.now(), receipt: null, traces: {} }),
      ...news,
    };
    const others = this.#list.filter((other) => other !== known);
    this.#list = [...others, journey].sort((a, b) => (seqOf(b.version) ?? 0) - (seqOf(a.version) ?? 0)).slice(0, KEPT_MAX);
    this.#listeners.forEach((listener) => listener());
  }
}

export interface Station {
  key: string;
  label: string;
  /** Since the commit; null while under way. */
  ms: number | null;
  detail: string;
  kind: 'commit' | 'replica' | 'push' | 'token';
}

/** The stations of a journey in the order of the way. */
export function stationsOf(journey: Journey): Station[] {
  const { receipt } = journey;
  const stations: Station[] = [
    { key: 'commit', kind: 'commit', label: 'Commit', ms: 0, detail: 'In the database and in its change log, in one transaction' },
  ];
  for (const replica of receipt?.replicas ?? []) {
    stations.push({
      key: `replica ${replica.id}`,
      kind: 'replica',
      label: replica.id.length > 3 ? replica.id : `replica ${replica.id}`,
      ms: replica.ms,
      detail: `Replica ${replica.id} has applied it and decides by it`,
    });
  }
  for (const [user, trace] of Object.entries(journey.traces)) {
    const tookMs = trace.acceptedMs ?? trace.refreshedMs;
    const toldMs = sinceCommit(trace);
    stations.push({
      key: `told ${user}`,
      kind: 'push',
      label: `${user} told`,
      ms: toldMs,
      detail: trace.via === 'push' ? `Pushed to ${user}'s tab` : `${user}'s tab learned of it (${trace.via})`,
    });
    stations.push({
      key: `token ${user}`,
      kind: 'token',
      label: `${user}'s token`,
      ms: tookMs === null ? null : toldMs + tookMs,
      detail: tookMs === null ? 'The token is being refreshed' : `Token refreshed ${tookMs.toFixed(1)} ms after it was told`,
    });
  }
  const connections = receipt?.connections;
  if (connections !== undefined && connections.affected > 0 && Object.keys(journey.traces).length === 0) {
    const { affected, notified, refreshed } = connections;
    stations.push({
      key: 'told',
      kind: 'push',
      label: `${notified} of ${affected} told`,
      ms: notified >= affected ? (receipt?.elapsed_ms ?? null) : null,
      detail: `${notified} of ${affected} connected tabs have been told`,
    });
    stations.push({
      key: 'refreshed',
      kind: 'token',
      label: `${refreshed} of ${affected} fresh`,
      ms: refreshed >= affected ? (receipt?.elapsed_ms ?? null) : null,
      detail: `${refreshed} of ${affected} connected tabs hold a token that knows it`,
    });
  }
  return stations;
}

/** Two clocks of one machine in the demo; of two machines otherwise, where a difference must not look like time travel. */
function sinceCommit(trace: Trace): number {
  if (trace.committedAt === null) return 0;
  return Math.max(0, trace.toldAt - Date.parse(trace.committedAt));
}

/** When the last station was reached; null while one is still to come. */
export function totalMs(stations: readonly Station[]): number | null {
  if (stations.some((station) => station.ms === null)) return null;
  return Math.max(...stations.map((station) => station.ms ?? 0));
}

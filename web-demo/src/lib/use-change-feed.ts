/** Follows the change log: the strip shows what others do, and every table is read anew. */

import { seqOf } from '@permcast/client';
import { usePermcastClient, usePermission } from '@permcast/client/react';
import { useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import type { Change } from './api.ts';
import { useJourneys, usePaths } from './context.tsx';

/** A stream that ended is opened again after this long, doubled up to a cap. */
const REOPEN_BASE_MS = 500;
const REOPEN_CAP_MS = 15_000;
/** Tables are read again so long after the first of a burst of changes: the new tokens go first. */
const READ_AGAIN_MS = 150;

export function useChangeFeed(): void {
  const client = usePermcastClient();
  const admin = usePermission('permcast:admin');
  const queries = useQueryClient();
  const journeys = useJourneys();
  const where = usePaths();

  useEffect(() => {
    if (!admin || client.state.status !== 'signed_in') return;
    const abort = new AbortController();
    const epoch = client.state.pv.split('.')[0] ?? '';
    let after = seqOf(client.state.pv) ?? 0;
    let reading: ReturnType<typeof setTimeout> | undefined;
    const readAgain = () => {
      reading ??= setTimeout(() => {
        reading = undefined;
        void queries.invalidateQueries();
      }, READ_AGAIN_MS);
    };
    const follow = async () => {
      for (let failures = 0; !abort.signal.aborted; failures += 1) {
        try {
          for await (const event of client.events(`${where.stream}?after=${after}`, abort.signal)) {
            const change = changeOf(event.data);
            if (change === null || change.seq <= after) continue;
            failures = 0;
            after = change.seq;
            if (change.kind !== 'session') journeys.logged(epoch, change);
            readAgain();
          }
        } catch {
          // It is opened again below, or the session is over and so is this.
        }
        const pauseMs = Math.min(REOPEN_CAP_MS, REOPEN_BASE_MS * 2 ** failures) * (0.5 + Math.random() / 2);
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
    };
    void follow();
    return () => {
      abort.abort();
      clearTimeout(reading);
    };
  }, [admin, client, journeys, queries, where]);
}

export function changeOf(data: string): Change | null {
  try {
    const change = JSON.parse(data) as Change;
    return typeof change.seq === 'number' ? change : null;
  } catch {
    return null;
  }
}

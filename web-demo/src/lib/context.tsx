/** What every screen needs: who is signed in, the ways of changes, and how to make one. */

import { usePermcast, usePermcastClient } from '@permcast/client/react';
import { isPermcastError, ProblemError, seqOf, SignedOutError } from '@permcast/client';
import { notifications } from '@mantine/notifications';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { createContext, useContext, useEffect, useMemo, useSyncExternalStore } from 'react';
import type { Journey, Journeys } from '../journeys/journeys.ts';
import { paths, receiptOf, type Mutation, type Paths } from './api.ts';

const JourneysContext = createContext<Journeys | null>(null);
export const JourneysProvider = JourneysContext.Provider;

export function useJourneys(): Journeys {
  const journeys = useContext(JourneysContext);
  if (journeys === null) throw new Error('no journeys here');
  return journeys;
}

export function useJourneyList(): readonly Journey[] {
  const journeys = useJourneys();
  return useSyncExternalStore(journeys.subscribe, () => journeys.list);
}

/** Lets what this client lives through appear on the strip. */
export function useTraceFeed(): void {
  const client = usePermcastClient();
  const journeys = useJourneys();
  useEffect(
    () =>
      client.onTrace((trace) => {
        if (client.state.status === 'signed_in') journeys.traced(client.state.identity.user, trace);
      }),
    [client, journeys],
  );
}

/** The signed-in user's tenant. */
export function usePaths(): Paths {
  const { state } = usePermcast();
  const tenant = state.status === 'signed_in' ? state.identity.tenant : 'default';
  return useMemo(() => paths(tenant), [tenant]);
}

export function messageOf(error: unknown): { title: string; detail: string } {
  if (error instanceof ProblemError) {
    const fields = (error.problem.errors ?? []).map((field) => [field.pointer, field.detail].filter(Boolean).join(': '));
    return {
      title: error.problem.title,
      detail: [error.problem.detail, ...fields].filter(Boolean).join('. ') || `The server answered ${error.status}.`,
    };
  }
  if (isPermcastError(error)) return { title: 'That did not work', detail: error.message };
  return { title: 'Something broke in this page', detail: error instanceof Error ? error.message : String(error) };
}

export function showError(error: unknown): void {
  if (error instanceof SignedOutError) return;
  const { title, detail } = messageOf(error);
  notifications.show({ color: 'red', title, message: detail, autoClose: 10_000 });
}

export interface Order {
  /** In the past tense, for the strip. */
  title: string;
  method: 'PUT' | 'DELETE' | 'POST' | 'PATCH';
  path: string;
  json?: unknown;
}

/** How long an answer waits for the slowest replica. */
const WAIT_SECONDS = 2;
/** When to look again how many tabs are fresh, after the answer. */
const RECEIPT_LOOKS_MS = [120, 500, 1_500, 4_000];

/** Makes a change, and follows it on its way. */
export function useChange() {
  const { client, state } = usePermcast();
  const journeys = useJourneys();
  const queries = useQueryClient();
  const where = usePaths();
  const actor = state.status === 'signed_in' ? state.identity.user : null;
  return useMutation({
    mutationFn: async (order: Order) => {
      const answer = await client.call<Mutation>(order.path, {
        method: order.method,
        waitSeconds: WAIT_SECONDS,
        ...(order.json === undefined ? {} : { json: order.json }),
      });
      const { change } = answer;
      if (change !== null && change !== undefined) {
        journeys.committed(change.version, order.title, actor, answer.propagation ?? null);
        const look = async (turn: number): Promise<void> => {
          const delayMs = RECEIPT_LOOKS_MS[turn];
          if (delayMs === undefined) return;
          await new Promise((resolve) => setTimeout(resolve, delayMs));
          const seq = seqOf(change.version);
          const receipt = seq === null ? null : await receiptOf(client, where.propagation(seq)).catch(() => null);
          if (receipt === null) return;
          journeys.receipt(change.version, receipt);
          if (!receipt.complete || receipt.connections.refreshed < receipt.connections.affected) await look(turn + 1);
        };
        void look(0);
      }
      return answer;
    },
    onError: showError,
    onSettled: () => queries.invalidateQueries(),
  });
}

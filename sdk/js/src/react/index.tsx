import { createContext, useCallback, useContext, useSyncExternalStore, type ReactNode } from 'react';
import type { PermcastClient } from '../client.ts';
import type { State } from '../state.ts';

const Context = createContext<PermcastClient | null>(null);

export function PermcastProvider({ client, children }: { client: PermcastClient; children: ReactNode }) {
  return <Context.Provider value={client}>{children}</Context.Provider>;
}

/** The client, without following its state. */
export function usePermcastClient(): PermcastClient {
  const client = useContext(Context);
  if (client === null) throw new Error('usePermcast must be used inside <PermcastProvider>.');
  return client;
}

/** The client and its state; redraws at each change of it. */
export function usePermcast(): { client: PermcastClient; state: State } {
  const client = usePermcastClient();
  const subscribe = useCallback((redraw: () => void) => client.onChange(redraw), [client]);
  const state = useSyncExternalStore(subscribe, () => client.state, () => client.state);
  return { client, state };
}

/** Whether the user may; redraws only when the answer turns. */
export function usePermission(permission: string): boolean {
  const client = usePermcastClient();
  const subscribe = useCallback((redraw: () => void) => client.onChange(redraw), [client]);
  const answer = () => client.can(permission);
  return useSyncExternalStore(subscribe, answer, answer);
}

/** Shows its children to who may, and `otherwise` to who may not. */
export function Can({
  permission,
  children,
  otherwise = null,
}: {
  permission: string;
  children: ReactNode;
  otherwise?: ReactNode;
}) {
  return <>{usePermission(permission) ? children : otherwise}</>;
}

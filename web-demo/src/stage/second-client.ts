/** The user beside the administrator: a client of another replica where this page may reach one. */

import { PermcastClient } from '@permcast/client';
import { useEffect, useState } from 'react';
import { replicasOf, type Demo } from '../lib/demo.ts';

export type Second =
  | { kind: 'entering' }
  | { kind: 'here'; client: PermcastClient; replica: string | null }
  | { kind: 'failed'; error: unknown };

/** Another origin may be closed to this page by policy; then both sit at the same replica. */
async function reachable(url: string): Promise<boolean> {
  try {
    return (await fetch(`${url}/healthz`, { credentials: 'omit', mode: 'cors' })).ok;
  } catch {
    return false;
  }
}

export function useSecondClient(demo: Demo, user: string): Second {
  const [second, setSecond] = useState<Second>({ kind: 'entering' });
  useEffect(() => {
    let client: PermcastClient | null = null;
    let stopped = false;
    setSecond({ kind: 'entering' });
    void (async () => {
      const { here, others } = replicasOf(demo);
      const other = others[0];
      const away = other !== undefined && (await reachable(other.url)) ? other : null;
      if (stopped) return;
      client = new PermcastClient(away === null ? {} : { baseUrl: new URL(away.url).origin });
      try {
        await client.signIn({ username: user, password: demo.password });
        if (!stopped) setSecond({ kind: 'here', client, replica: away?.id ?? here });
      } catch (error) {
        if (!stopped) setSecond({ kind: 'failed', error });
      }
    })();
    return () => {
      stopped = true;
      void client?.signOut();
    };
  }, [demo, user]);
  return second;
}

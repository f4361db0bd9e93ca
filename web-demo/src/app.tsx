import { Center, Loader } from '@mantine/core';
import { PermcastClient } from '@permcast/client';
import { PermcastProvider, usePermcast } from '@permcast/client/react';
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { useEffect, useMemo, useState } from 'react';
import { Journeys } from './journeys/journeys.ts';
import { JourneysProvider, useTraceFeed } from './lib/context.tsx';
import { loadDemo, type Demo } from './lib/demo.ts';
import { Shell } from './shell/shell.tsx';
import { Welcome } from './welcome/welcome.tsx';

type Boot = { kind: 'asking' } | { kind: 'ready'; demo: Demo | null; client: PermcastClient };

export function App() {
  const [boot, setBoot] = useState<Boot>({ kind: 'asking' });

  useEffect(() => {
    let stopped = false;
    void (async () => {
      const demo = await loadDemo();
      if (stopped) return;
      // Cookies ignore ports, and the demo's replicas differ in nothing else: there, tokens stay in memory.
      const client = new PermcastClient({ cookie: demo === null });
      if (demo === null) await client.resume().catch(() => false);
      if (!stopped) setBoot({ kind: 'ready', demo, client });
    })();
    return () => {
      stopped = true;
    };
  }, []);

  if (boot.kind === 'asking') {
    return (
      <Center h="100dvh">
        <Loader type="dots" aria-label="Loading" />
      </Center>
    );
  }
  return (
    <PermcastProvider client={boot.client}>
      <SignedInOrNot demo={boot.demo} />
    </PermcastProvider>
  );
}

function SignedInOrNot({ demo }: { demo: Demo | null }) {
  const { state } = usePermcast();
  if (state.status !== 'signed_in') return <Welcome demo={demo} />;
  return <SignedIn key={state.identity.session} demo={demo} />;
}

/** What one user has loaded is never shown to the next: all of it lives and dies with the session. */
function SignedIn({ demo }: { demo: Demo | null }) {
  const queries = useMemo(
    () => new QueryClient({ defaultOptions: { queries: { retry: false, staleTime: 2_000, refetchOnWindowFocus: false } } }),
    [],
  );
  const journeys = useMemo(() => new Journeys(), []);
  return (
    <QueryClientProvider client={queries}>
      <JourneysProvider value={journeys}>
        <TraceFeed />
        <Shell demo={demo} />
      </JourneysProvider>
    </QueryClientProvider>
  );
}

function TraceFeed() {
  useTraceFeed();
  return null;
}

import { usePermcast } from '@permcast/client/react';
import { useChange, usePaths } from '../lib/context.tsx';
import { ago } from '../lib/format.ts';
import parts from '../lib/parts.module.css';
import { Chip, ConfirmButton, Pending, Section } from './parts.tsx';
import { useSessions } from './queries.ts';

export function Sessions({ id }: { id: string }) {
  const sessions = useSessions(id);
  const change = useChange();
  const where = usePaths();
  const { state } = usePermcast();
  const own = state.status === 'signed_in' ? state.identity.session : null;
  const items = sessions.data?.items;
  return (
    <Section
      title="Sessions"
      action={
        items !== undefined && items.length > 1 ? (
          <ConfirmButton
            label="End all"
            title={`End all sessions of ${id}?`}
            confirm="End all"
            size="xs"
            subtle
            onConfirm={() =>
              change.mutate({ title: `${id} is signed out everywhere`, method: 'DELETE', path: where.sessions(id) })
            }
          >
            Every browser in which {id} is signed in is signed out at once.
          </ConfirmButton>
        ) : undefined
      }
    >
      {items === undefined ? (
        <Pending error={sessions.error} retry={() => void sessions.refetch()} />
      ) : items.length === 0 ? (
        <span className={parts['soft']}>Signed in nowhere.</span>
      ) : (
        items.map((session) => (
          <div key={session.id} className={parts['row']}>
            <div className={parts['grow']}>
              {browserOf(session.user_agent)} {session.connected && <Chip tone="go">connected</Chip>}{' '}
              {session.id === own && <Chip>this one</Chip>}
              <small>
                {session.address} · signed in {ago(session.created_at)} · refreshed {ago(session.last_refresh_at)}
              </small>
            </div>
            <ConfirmButton
              label="End"
              title="End this session?"
              confirm="End session"
              size="xs"
              subtle
              onConfirm={() =>
                change.mutate({
                  title: `A session of ${id} is ended`,
                  method: 'DELETE',
                  path: where.session(id, session.id),
                })
              }
            >
              {session.id === own ? 'It is the one that you are in: you will be signed out.' : 'Its tabs are signed out at once.'}
            </ConfirmButton>
          </div>
        ))
      )}
    </Section>
  );
}

/** Enough of a user agent to tell one browser from another. */
function browserOf(agent: string): string {
  const browser = /(Edg|OPR|Firefox|Chrome|Safari|curl)/.exec(agent)?.[1];
  const system = /(Windows|Android|iPhone|iPad|Mac OS X|Linux)/.exec(agent)?.[1];
  const name = { Edg: 'Edge', OPR: 'Opera' }[browser ?? ''] ?? browser;
  return [name ?? 'A program', system].filter(Boolean).join(' on ');
}

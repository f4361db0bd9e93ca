import { Tooltip } from '@mantine/core';
import type { State } from '@permcast/client';
import classes from './connection.module.css';

type SignedIn = Extract<State, { status: 'signed_in' }>;

/** How the server reaches this page, in a word. */
export function Connection({ state }: { state: SignedIn }) {
  const { tone, word, detail } = describe(state);
  return (
    <Tooltip label={detail} multiline maw={280}>
      <span className={classes['badge']} data-tone={tone} role="status" tabIndex={0} aria-label={`${word}. ${detail}`}>
        <span className={classes['dot']} />
        {word}
      </span>
    </Tooltip>
  );
}

function describe({ link, freshness, lock }: SignedIn): { tone: 'good' | 'busy' | 'bad'; word: string; detail: string } {
  if (lock.kind === 'locked') return { tone: 'bad', word: 'Locked down', detail: 'An operator has locked the system down.' };
  if (freshness.kind === 'due') {
    return { tone: 'busy', word: 'Change announced', detail: 'Your permissions have changed; a new token is on its way.' };
  }
  if (freshness.kind === 'refreshing' && freshness.needs !== null) {
    return { tone: 'busy', word: 'Refreshing', detail: 'Your permissions have changed; a new token is being fetched.' };
  }
  switch (link.kind) {
    case 'live':
      return { tone: 'good', word: `Live · ${link.replica}`, detail: `Connected to replica ${link.replica}. Changes arrive by push.` };
    case 'draining':
      return { tone: 'busy', word: 'Moving', detail: `Replica ${link.replica} is restarting; this page moves to another.` };
    case 'polling':
      return {
        tone: 'busy',
        word: 'Polling',
        detail:
          link.why === 'displaced'
            ? 'Too many tabs are open: this one asks every few seconds.'
            : 'No socket passes from here: the page asks every few seconds.',
      };
    case 'offline':
      return { tone: 'bad', word: 'Offline', detail: 'This machine has no network. What you see may be out of date.' };
    case 'off':
      return { tone: 'bad', word: 'Not connected', detail: 'There is no connection.' };
    case 'waiting':
    case 'connecting':
      return { tone: 'busy', word: link.attempt === 0 ? 'Connecting' : 'Reconnecting', detail: 'Looking for a replica.' };
  }
}

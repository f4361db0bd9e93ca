import { UnstyledButton } from '@mantine/core';
import { IconChevronDown, IconChevronUp } from '@tabler/icons-react';
import { useState } from 'react';
import { useJourneyList } from '../lib/context.tsx';
import { JourneyLine } from './journey-line.tsx';
import classes from './strip.module.css';

/** The latest change on its way, at the foot of every page; the ones before it on demand. */
export function Strip() {
  const journeys = useJourneyList();
  const [open, setOpen] = useState(false);
  const [latest, ...before] = journeys;
  return (
    <section className={classes['strip']} aria-label="Changes travelling" data-testid="strip">
      {latest === undefined ? (
        <p className={classes['idle']}>The next change of permissions travels along here.</p>
      ) : (
        <>
          {open && before.length > 0 && (
            <div className={classes['history']}>
              {before
                .slice()
                .reverse()
                .map((journey) => (
                  <JourneyLine key={journey.version} journey={journey} />
                ))}
            </div>
          )}
          <div className={classes['latest']}>
            <div className={classes['way']} aria-live="polite">
              <JourneyLine key={latest.version} journey={latest} />
            </div>
            {before.length > 0 && (
              <UnstyledButton
                className={classes['toggle'] ?? ''}
                onClick={() => setOpen(!open)}
                aria-expanded={open}
                aria-label={open ? 'Hide earlier changes' : `Show ${before.length} earlier changes`}
              >
                {open ? <IconChevronDown size={18} /> : <IconChevronUp size={18} />}
              </UnstyledButton>
            )}
          </div>
        </>
      )}
    </section>
  );
}

import { Tooltip } from '@mantine/core';
import { ms } from '../lib/format.ts';
import { stationsOf, totalMs, type Journey, type Station } from './journeys.ts';
import classes from './journey-line.module.css';

/** One change as a line of stations, lit one after the other. */
export function JourneyLine({ journey, large = false }: { journey: Journey; large?: boolean }) {
  const stations = stationsOf(journey);
  const total = totalMs(stations);
  return (
    <div className={classes['journey']} data-large={large || undefined}>
      <div className={classes['head']}>
        <span className={classes['title']}>{journey.title || 'A change'}</span>
        <span className={classes['meta']}>
          {journey.actor !== null && <span>by {journey.actor.replace(/^default\//, '')}</span>}
          <code>{journey.version}</code>
        </span>
        {stations.length > 1 && (
          <span className={classes['total']} data-testid="journey-total">
            {total === null ? 'under way' : `everywhere in ${ms(total)}`}
          </span>
        )}
      </div>
      <Line stations={stations} figures />
    </div>
  );
}

/** The stations alone. */
export function Line({ stations, figures }: { stations: readonly Station[]; figures: boolean }) {
  const spoken = stations.map((station) => `${station.label}: ${figure(station)}`).join('; ');
  return (
    <ol className={classes['line']} aria-label={spoken}>
      {stations.map((station, index) => (
        <li
          key={station.key}
          className={classes['station']}
          data-kind={station.kind}
          data-reached={station.ms !== null || undefined}
          style={{ '--order': index } as React.CSSProperties}
        >
          <Tooltip label={station.detail} multiline maw={260} disabled={!figures}>
            <div className={classes['stop']} {...(figures ? { tabIndex: 0, 'aria-label': station.detail } : {})}>
              <span className={classes['dot']} />
              <span className={classes['label']}>{station.label}</span>
              {figures && <span className={classes['ms']}>{figure(station)}</span>}
            </div>
          </Tooltip>
        </li>
      ))}
    </ol>
  );
}

function figure({ kind, ms: reachedMs }: Station): string {
  if (kind === 'commit') return 'start';
  if (reachedMs === null) return '…';
  // Two wall clocks that show whole milliseconds: less than one says nothing.
  if (kind === 'push' && reachedMs < 1) return '< 1 ms';
  return ms(reachedMs);
}

import type { Trace } from '@permcast/client';
import { expect, it } from 'vitest';
import { Journeys, stationsOf, totalMs } from './journeys.ts';

const receipt = (refreshed: number) => ({
  complete: true,
  elapsed_ms: 2.5,
  replicas: [
    { id: 'a', applied: true, ms: 0.4 },
    { id: 'b', applied: true, ms: 1.9 },
  ],
  connections: { affected: 3, notified: 3, refreshed },
});

const trace: Trace = {
  pv: 'aaaaaaaa.7',
  via: 'push',
  reason: 'user',
  committedAt: '2030-01-01T00:00:00.000Z',
  toldAt: Date.parse('2030-01-01T00:00:00.003Z'),
  drawnMs: 0,
  refreshStartedMs: 0.1,
  refreshedMs: null,
  acceptedMs: null,
};

it('puts together what all parties report of one change, in whichever order it comes', () => {
  const journeys = new Journeys();
  journeys.traced('ben', trace);
  journeys.logged('aaaaaaaa', { seq: 7, at: '', actor: 'default/ada', kind: 'user', target: 'ben', summary: 'role gone' });
  expect(journeys.list[0]).toMatchObject({ title: 'role gone', actor: 'default/ada' });
  journeys.committed('aaaaaaaa.7', 'ben loses the role editor', 'ada', receipt(0));
  expect(journeys.list).toHaveLength(1);
  expect(journeys.list[0]).toMatchObject({ title: 'ben loses the role editor', actor: 'ada' });
  expect(stationsOf(journeys.list[0]!).map(({ label, ms }) => [label, ms])).toEqual([
    ['Commit', 0],
    ['replica a', 0.4],
    ['replica b', 1.9],
    ['ben told', 3],
    ["ben's token", null],
  ]);
});

it('is under way until the last token is fresh', () => {
  const journeys = new Journeys();
  journeys.committed('aaaaaaaa.7', 'x', 'ada', receipt(2));
  expect(totalMs(stationsOf(journeys.list[0]!))).toBeNull();
  journeys.receipt('aaaaaaaa.7', receipt(3));
  expect(totalMs(stationsOf(journeys.list[0]!))).toBe(2.5);
});

it('does not let two clocks that differ look like time travel', () => {
  const journeys = new Journeys();
  journeys.traced('ben', { ...trace, toldAt: 0, acceptedMs: 4 });
  expect(stationsOf(journeys.list[0]!).map(({ ms }) => ms)).toEqual([0, 0, 4]);
});

it('shows the newest first, and forgets the oldest', () => {
  const journeys = new Journeys();
  for (let seq = 1; seq <= 40; seq += 1) journeys.committed(`aaaaaaaa.${seq}`, String(seq), 'ada', null);
  expect(journeys.list[0]?.title).toBe('40');
  expect(journeys.list).toHaveLength(30);
});

it('tells who looks only when something is new', () => {
  const journeys = new Journeys();
  let told = 0;
  const stop = journeys.subscribe(() => (told += 1));
  const before = journeys.list;
  expect(journeys.list).toBe(before);
  journeys.committed('aaaaaaaa.1', 'x', null, null);
  stop();
  journeys.committed('aaaaaaaa.2', 'x', null, null);
  expect(told).toBe(1);
});

import { describe, expect, it } from 'vitest';
import { SignedOutError } from '../src/index.ts';
import { settle } from './support/clock.ts';
import { json, problem, type FakeServer } from './support/fake-server.ts';
import { World } from './support/world.ts';

/** Holds the next refresh until it is let go; the server answers it as it stands at that moment, or did at the first. */
function held(server: FakeServer, answered: 'first' | 'last'): () => void {
  let release = () => undefined as void;
  const gate = new Promise<void>((resolve) => (release = resolve));
  server.script('/oauth/token', async () => {
    const call = server.calls.at(-1);
    const answer = () => server.fetch('/oauth/token', { headers: call?.headers ?? {}, body: call?.body ?? '' });
    const early = answered === 'first' ? await answer() : null;
    await gate;
    return early ?? answer();
  });
  return release;
}

describe('one flight at a time', () => {
  it('serves all who ask while it is in the air', async () => {
    const world = await World.signedIn();
    await Promise.all([world.client.refresh(), world.client.refresh(), world.client.refresh()]);
    expect(world.refreshes).toBe(1);
  });

  it('flies again where somebody needs more than it was sent for', async () => {
    const world = await World.signedIn();
    const release = held(world.server, 'first');
    const first = world.client.refresh();
    await settle();
    world.server.seq = 7;
    const second = world.client.refresh('aaaaaaaa.7');
    release();
    await Promise.all([first, second]);
    expect(world.server.called('/oauth/token').at(-1)?.headers.get('permcast-at-least')).toBe('aaaaaaaa.7');
    expect(world.state.pv).toBe('aaaaaaaa.7');
  });

  it('is not repeated where what it brought is already new enough', async () => {
    const world = await World.signedIn();
    const release = held(world.server, 'last');
    const first = world.client.refresh();
    await settle();
    world.server.seq = 7;
    const second = world.client.refresh('aaaaaaaa.7');
    release();
    await Promise.all([first, second]);
    expect(world.server.called('/oauth/token').map((call) => call.headers.get('permcast-at-least'))).toEqual([null, null]);
  });

  it('brings nothing to one who has signed out meanwhile', async () => {
    const world = await World.signedIn();
    const release = held(world.server, 'last');
    const flight = world.client.refresh();
    await settle();
    await world.client.signOut();
    release();
    await expect(flight).rejects.toBeInstanceOf(SignedOutError);
    expect(world.client.state).toEqual({ status: 'signed_out', reason: 'signed_out' });
  });
});

describe('a refresh that fails', () => {
  it('goes on with growing, jittered pauses while the server does not answer', async () => {
    const world = await World.signedIn();
    world.server.script('/oauth/token', 'no answer', 'no answer', problem(500, 'internal', 'Oh.'));
    const done = world.client.refresh();
    await world.clock.advance(249);
    expect(world.refreshes).toBe(1);
    await world.clock.advance(1);
    expect(world.refreshes).toBe(2);
    await world.clock.advance(500);
    expect(world.refreshes).toBe(3);
    await world.clock.advance(1_000);
    await done;
    expect(world.refreshes).toBe(4);
  });

  it('waits as long as the server says, and a little more by chance', async () => {
    const world = await World.signedIn();
    world.server.script('/oauth/token', problem(429, 'busy', 'Later.', { 'retry-after': '3' }));
    const done = world.client.refresh();
    await settle();
    world.network('online');
    await world.clock.advance(3_249);
    expect(world.refreshes).toBe(1);
    await world.clock.advance(1);
    await done;
    expect(world.refreshes).toBe(2);
  });

  it('is taken up at once when the network is back', async () => {
    const world = await World.signedIn();
    world.server.script('/oauth/token', 'no answer', 'no answer', 'no answer', 'no answer');
    const done = world.client.refresh();
    await world.clock.advance(2_000);
    expect(world.refreshes).toBe(4);
    world.network('online');
    await settle();
    expect(world.refreshes).toBe(5);
    await world.clock.advance(4_000);
    await done;
  });

  it('is over for one who signs out while it pauses', async () => {
    const world = await World.signedIn();
    world.server.script('/oauth/token', 'no answer');
    const flight = world.client.refresh();
    await settle();
    await world.client.signOut();
    await expect(flight).rejects.toBeInstanceOf(SignedOutError);
  });

  it('ends the session where the refresh token is refused', async () => {
    const world = await World.signedIn();
    world.server.script('/oauth/token', json(400, { error: 'invalid_grant' }));
    await expect(world.client.refresh()).rejects.toBeInstanceOf(SignedOutError);
    expect(world.client.state).toEqual({ status: 'signed_out', reason: 'expired' });
    expect(world.clock.pending).toBe(0);
  });

  it('forgets a version of an epoch that is gone', async () => {
    const world = await World.signedIn();
    world.server.restore('bbbbbbbb');
    const done = world.client.refresh('aaaaaaaa.9');
    await world.clock.advance(1_000);
    await done;
    expect(world.state.pv).toBe('bbbbbbbb.1');
    expect(world.state.freshness).toEqual({ kind: 'fresh' });
    expect(world.server.called('/oauth/token').map((call) => call.headers.get('permcast-at-least'))).toEqual([
      'aaaaaaaa.9',
      null,
    ]);
  });
});

describe('renewal', () => {
  it('comes before the token ends, once', async () => {
    const world = await World.signedIn();
    await world.clock.advance(764_000);
    expect(world.refreshes).toBe(0);
    await world.clock.advance(2_000);
    expect(world.refreshes).toBe(1);
    expect(world.state.expiresAt).toBeGreaterThan(world.clock.now + 890_000);
  });

  it('comes when the server says that the token is about to end', async () => {
    const world = await World.signedIn();
    world.server.socket.deliver({ type: 'token_expiring', expires_in_ms: 60_000 });
    await settle();
    expect(world.refreshes).toBe(1);
    expect(world.server.socket.received.at(-1)).toMatchObject({ type: 'refresh' });
  });

  it('is not early where a grant that runs out has cut the life short', async () => {
    const world = await World.signedIn();
    world.server.tokenLifeSeconds = 100;
    await world.client.refresh();
    world.server.socket.deliver({ type: 'token_expiring', expires_in_ms: 60_000 });
    await world.clock.advance(99_000);
    expect(world.refreshes).toBe(1);
    await world.clock.advance(1_000);
    expect(world.refreshes).toBe(2);
  });

  it('does not spin where tokens end as soon as they are given', async () => {
    const world = await World.signedIn({ realtime: false });
    world.server.tokenLifeSeconds = 0;
    await world.client.refresh();
    await world.clock.advance(3_500);
    expect(world.refreshes).toBe(4);
  });
});

import { describe, expect, it } from 'vitest';
import { settle } from './support/clock.ts';
import { problem } from './support/fake-server.ts';
import { World } from './support/world.ts';

describe('sleep', () => {
  it('is noticed by the clock, and a connection that died in it is replaced', async () => {
    const world = await World.signedIn();
    world.server.socket.cut = true;
    world.clock.sleep(3_600_000);
    await world.clock.advance(5_000);
    await world.clock.advance(4_300);
    expect(world.server.sockets).toHaveLength(2);
    expect(world.state.link.kind).toBe('live');
  });

  it('leaves a connection that lived through it alone', async () => {
    const world = await World.signedIn();
    world.clock.sleep(60_000);
    await world.clock.advance(20_000);
    expect(world.server.socket.received.map((message) => message['type'])).toEqual(['hello', 'ping']);
    expect(world.server.sockets).toHaveLength(1);
  });

  it('ends a wait for a refresh whose time has passed', async () => {
    const world = await World.signedIn();
    world.server.refreshWithinMs = 3_600_000;
    world.server.grant(['reports:read']);
    world.clock.sleep(3_600_000);
    await world.clock.advance(5_000);
    expect(world.client.can('reports:read')).toBe(true);
  });

  it('renews a token that ended in it', async () => {
    const world = await World.signedIn();
    world.clock.sleep(900_000);
    await world.clock.advance(6_000);
    expect(world.refreshes).toBe(1);
  });
});

describe('a tab that is looked at again', () => {
  it('finds a dead connection within seconds', async () => {
    const world = await World.signedIn();
    world.server.socket.cut = true;
    world.network('hidden');
    await world.clock.advance(1_000);
    world.network('visible');
    await world.clock.advance(4_300);
    expect(world.server.sockets).toHaveLength(2);
  });
});

describe('a machine that is offline', () => {
  it('does not try, and comes back with the network', async () => {
    const world = await World.signedIn();
    world.network('offline');
    world.server.socket.shut(1006);
    expect(world.state.link).toEqual({ kind: 'offline', attempt: 1 });
    await world.clock.advance(600_000);
    expect(world.server.sockets).toHaveLength(1);
    world.network('online');
    await world.clock.advance(250);
    expect(world.state.link.kind).toBe('live');
  });

  it('stops a try that was planned', async () => {
    const world = await World.signedIn();
    world.server.socket.shut(1006);
    world.network('offline');
    await world.clock.advance(600_000);
    expect(world.server.sockets).toHaveLength(1);
  });

  it('is not believed where the connection proves the browser wrong', async () => {
    const world = await World.signedIn();
    world.network('offline');
    await world.clock.advance(10_000);
    expect(world.server.sockets).toHaveLength(1);
    expect(world.state.link.kind).toBe('live');
  });
});

describe('where no socket passes', () => {
  const blocked = () => World.signedIn({}, ({ server }) => (server.handshake = 'refuse'));

  it('polls after some attempts, and learns of a change', async () => {
    const world = await blocked();
    await world.clock.advance(700);
    expect(world.server.called('/v1/me/freshness')).toHaveLength(0);
    await world.clock.advance(100);
    expect(world.state.link).toMatchObject({ kind: 'polling', why: 'blocked', attempt: 3 });
    expect(world.server.called('/v1/me/freshness')).toHaveLength(1);
    const pv = world.server.grant(['reports:read']);
    await world.clock.advance(5_000);
    expect(world.client.can('reports:read')).toBe(true);
    expect(world.traces[0]).toMatchObject({ pv, via: 'poll' });
  });

  it('asks with the tag of the last answer, so that nothing new costs nothing', async () => {
    const world = await blocked();
    await world.clock.advance(16_000);
    const tags = world.server.called('/v1/me/freshness').map((call) => call.headers.get('if-none-match'));
    expect(tags.slice(0, 3)).toEqual([null, '"aaaaaaaa.1"', '"aaaaaaaa.1"']);
  });

  it('goes on asking while the server does not answer, and no faster than it says', async () => {
    const world = await blocked();
    world.server.script('/v1/me/freshness', 'no answer', problem(503, 'stale', 'Later.', { 'retry-after': '20' }));
    await world.clock.advance(800);
    await world.clock.advance(5_000);
    expect(world.server.called('/v1/me/freshness')).toHaveLength(2);
    await world.clock.advance(19_000);
    expect(world.server.called('/v1/me/freshness')).toHaveLength(2);
    await world.clock.advance(1_100);
    expect(world.server.called('/v1/me/freshness')).toHaveLength(3);
  });

  it('is signed out when told that the session has ended', async () => {
    const world = await blocked();
    world.server.endSessions();
    await world.clock.advance(1_000);
    expect(world.client.state.status).toBe('signed_out');
  });

  it('stops when a socket passes after all', async () => {
    const world = await blocked();
    await world.clock.advance(1_000);
    world.server.handshake = 'open';
    await world.clock.advance(20_000);
    expect(world.state.link.kind).toBe('live');
    const polls = world.server.called('/v1/me/freshness').length;
    await world.clock.advance(30_000);
    expect(world.server.called('/v1/me/freshness')).toHaveLength(polls);
  });

  it('renews a token that is refused', async () => {
    const world = await blocked();
    const refusal = { 'www-authenticate': 'Bearer error="invalid_token", error_description="unknown key"' };
    world.server.script('/v1/me/freshness', problem(401, 'unauthorised', 'Unknown key.', refusal));
    await world.clock.advance(1_000);
    expect(world.refreshes).toBe(1);
  });
});

it('leaves the network and the clock alone where realtime is off', async () => {
  const world = await World.signedIn({ realtime: false });
  await world.clock.advance(60_000);
  await settle();
  expect(world.server.sockets).toEqual([]);
  expect(world.state.link).toEqual({ kind: 'off' });
});

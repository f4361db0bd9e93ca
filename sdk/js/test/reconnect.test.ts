import { describe, expect, it } from 'vitest';
import { CLOSE_CODES, closeRule } from '../src/index.ts';
import { settle } from './support/clock.ts';
import { World } from './support/world.ts';

it('has a rule for every close code of the contract', () => {
  expect(Object.keys(CLOSE_CODES).map(Number)).toEqual(
    expect.arrayContaining([1012, 4400, 4401, 4403, 4408, 4413, 4429]),
  );
  expect(closeRule(4999)).toBe('backoff');
});

describe('a lost connection', () => {
  it('comes back after full jitter that doubles up to a cap', async () => {
    const world = await World.signedIn();
    world.chance = 0.999;
    world.server.handshake = 'refuse';
    world.server.socket.shut(1006);
    const waits: number[] = [];
    for (let attempt = 1; attempt <= 9; attempt += 1) {
      const { link } = world.state;
      if (!('retryAt' in link) || link.retryAt === null) throw new Error(link.kind);
      expect(link.attempt).toBe(attempt);
      waits.push(Math.round((link.retryAt - world.clock.now) / 0.999));
      await world.clock.advance(link.retryAt - world.clock.now);
    }
    expect(waits).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  });

  it('comes back where a platform tells of the error alone', async () => {
    const world = await World.signedIn();
    world.server.handshake = 'fail';
    world.server.socket.shut(1006);
    await world.clock.advance(500);
    expect(world.state.link).toMatchObject({ kind: 'waiting', attempt: 2 });
    world.server.handshake = 'open';
    await world.clock.advance(1_000);
    expect(world.state.link.kind).toBe('live');
    world.server.socket.fail();
    expect(world.state.link.kind).toBe('live');
  });

  it('comes back at different times by chance', async () => {
    const world = await World.signedIn();
    world.chance = 0;
    world.server.socket.shut(1006);
    await world.clock.advance(0);
    expect(world.server.sockets).toHaveLength(2);
    expect(world.state.link.kind).toBe('live');
  });

  it('counts from the start again once it has held for a while, and not before', async () => {
    const world = await World.signedIn();
    world.server.socket.shut(1006);
    await world.clock.advance(300);
    expect(world.state.link).toMatchObject({ kind: 'live', attempt: 1 });
    world.server.socket.shut(1006);
    expect(world.state.link).toMatchObject({ kind: 'waiting', attempt: 2 });
    await world.clock.advance(600);
    await world.clock.advance(10_000);
    expect(world.state.link).toMatchObject({ kind: 'live', attempt: 0 });
  });

  it('is noticed when heartbeats stay away', async () => {
    const world = await World.signedIn();
    await world.clock.advance(40_000);
    world.server.socket.deliver({ type: 'heartbeat', pv: world.server.pv });
    await world.clock.advance(49_000);
    expect(world.server.sockets).toHaveLength(1);
    await world.clock.advance(1_300);
    expect(world.server.sockets).toHaveLength(2);
    expect(world.server.sockets[0]?.ended).toBe(true);
  });

  it('is given up where no welcome comes', async () => {
    const world = await World.signedIn({}, ({ server }) => (server.handshake = 'silent'));
    await world.clock.advance(9_999);
    expect(world.state.link).toEqual({ kind: 'connecting', attempt: 0 });
    await world.clock.advance(1);
    expect(world.state.link).toMatchObject({ kind: 'waiting', attempt: 1 });
  });

  it('does not hear a socket that it has let go', async () => {
    const world = await World.signedIn();
    const [old] = world.server.sockets;
    const hear = old?.onmessage;
    old?.shut(1006);
    await world.clock.advance(300);
    hear?.({ data: JSON.stringify({ type: 'session_revoked', reason: 'deleted' }) } as never);
    expect(old?.onmessage).toBeNull();
    expect(world.server.sockets).toHaveLength(2);
  });
});

describe('a connection that the server closes', () => {
  it('for a restart comes back within the time that it named, spread', async () => {
    const world = await World.signedIn();
    world.server.socket.deliver({ type: 'draining', reconnect_within_ms: 20_000 });
    expect(world.state.link).toMatchObject({ kind: 'draining', reconnectWithinMs: 20_000 });
    world.server.socket.shut(1012);
    expect(world.state.link).toEqual({ kind: 'waiting', attempt: 0, retryAt: world.clock.now + 10_000 });
    await world.clock.advance(10_000);
    expect(world.state.link.kind).toBe('live');
  });

  it('for its token (4401) refreshes first', async () => {
    const world = await World.signedIn();
    const before = world.server.socket.received[0]?.['token'];
    world.server.socket.shut(4401);
    await world.clock.advance(300);
    expect(world.refreshes).toBe(1);
    expect(world.server.sockets).toHaveLength(2);
    expect(world.server.socket.received[0]?.['token']).not.toBe(before);
    expect(world.state.link.kind).toBe('live');
  });

  it('because the session is over (4403) is signed out', async () => {
    const world = await World.signedIn();
    world.server.socket.shut(4403);
    expect(world.client.state).toEqual({ status: 'signed_out', reason: 'signed_out' });
    await world.clock.advance(600_000);
    expect(world.server.sockets).toHaveLength(1);
  });

  it('because there are too many (4429) polls, and returns late', async () => {
    const world = await World.signedIn();
    world.server.socket.shut(4429);
    expect(world.state.link).toMatchObject({ kind: 'polling', why: 'displaced' });
    world.network('online');
    await world.clock.advance(89_000);
    expect(world.server.sockets).toHaveLength(1);
    expect(world.server.called('/v1/me/freshness').length).toBeGreaterThan(10);
    await world.clock.advance(1_000);
    expect(world.server.sockets).toHaveLength(2);
    const polls = world.server.called('/v1/me/freshness').length;
    await world.clock.advance(15_000);
    expect(world.server.called('/v1/me/freshness')).toHaveLength(polls);
  });

  it('because there are too many (4429) returns when the user does', async () => {
    const world = await World.signedIn();
    world.server.socket.shut(4429);
    world.network('visible');
    await settle();
    expect(world.server.sockets).toHaveLength(2);
  });

  it.each([4400, 4413])('for what it sent (%d) polls, and does not send it again', async (code) => {
    const world = await World.signedIn();
    world.server.socket.shut(code);
    expect(world.state.link).toEqual({ kind: 'polling', attempt: 0, why: 'refused', retryAt: null });
    world.network('visible');
    await world.clock.advance(600_000);
    expect(world.server.sockets).toHaveLength(1);
    world.server.grant(['reports:read'], { tell: false });
    await world.clock.advance(8_000);
    expect(world.client.can('reports:read')).toBe(true);
  });
});

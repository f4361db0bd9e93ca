import { describe, expect, it } from 'vitest';
import { settle } from './support/clock.ts';
import { World } from './support/world.ts';

describe('a change that is pushed', () => {
  it('of one user is refreshed at once, at least to the version told, and confirmed on the socket', async () => {
    const world = await World.signedIn();
    const pv = world.server.grant(['reports:read']);
    expect(world.state.freshness).toMatchObject({ kind: 'refreshing', needs: pv });
    await settle();
    expect(world.client.can('reports:read')).toBe(true);
    expect(world.client.can('invoices:read')).toBe(false);
    expect(world.state).toMatchObject({ pv, freshness: { kind: 'fresh' } });
    expect(world.server.called('/oauth/token')[0]?.headers.get('permcast-at-least')).toBe(pv);
    expect(world.server.socket.received.at(-1)).toMatchObject({ type: 'refresh' });
  });

  it('of many is refreshed at a time drawn from what the server allows', async () => {
    const world = await World.signedIn();
    world.chance = 0.25;
    world.server.refreshWithinMs = 8_000;
    const pv = world.server.grant(['reports:read']);
    expect(world.state.freshness).toEqual({ kind: 'due', needs: pv, refreshAt: world.clock.now + 2_000 });
    await world.clock.advance(1_999);
    expect(world.refreshes).toBe(0);
    await world.clock.advance(1);
    expect(world.refreshes).toBe(1);
    expect(world.client.can('reports:read')).toBe(true);
  });

  it('is not put off by the next one, and carries the higher version', async () => {
    const world = await World.signedIn();
    world.server.refreshWithinMs = 8_000;
    world.server.grant(['a']);
    await world.clock.advance(3_000);
    const pv = world.server.grant(['b']);
    await world.clock.advance(1_000);
    expect(world.refreshes).toBe(1);
    expect(world.server.called('/oauth/token')[0]?.headers.get('permcast-at-least')).toBe(pv);
    await world.clock.advance(20_000);
    expect(world.refreshes).toBe(1);
  });

  it('is brought forward by one that is more urgent', async () => {
    const world = await World.signedIn();
    world.server.refreshWithinMs = 8_000;
    world.server.grant(['a']);
    world.server.refreshWithinMs = 0;
    world.server.grant(['b']);
    await settle();
    expect(world.refreshes).toBe(1);
    expect(world.client.can('b')).toBe(true);
  });

  it('is nothing new where a token already knows it', async () => {
    const world = await World.signedIn();
    world.server.grant(['reports:read'], { tell: false });
    await world.client.refresh();
    world.server.tell(world.server.socket);
    await settle();
    expect(world.refreshes).toBe(1);
    expect(world.traces).toEqual([]);
  });

  it('of a new epoch is always the higher', async () => {
    const world = await World.signedIn();
    world.server.seq = 50;
    await world.client.refresh();
    world.server.restore('bbbbbbbb');
    world.server.grant(['reports:read']);
    await settle();
    expect(world.state.pv).toBe('bbbbbbbb.2');
    expect(world.client.can('reports:read')).toBe(true);
  });

  it('that happened while away is told at welcome', async () => {
    const world = await World.signedIn({}, ({ server }) => (server.handshake = 'silent'));
    world.server.grant(['reports:read']);
    expect(world.client.can('reports:read')).toBe(false);
    world.server.socket.open();
    await settle();
    expect(world.client.can('reports:read')).toBe(true);
  });

  it('is followed from the telling to the accepted token', async () => {
    const world = await World.signedIn();
    world.server.refreshWithinMs = 100;
    const toldAt = world.clock.now;
    const pv = world.server.grant(['a']);
    await world.clock.advance(50);
    const told = {
      pv,
      via: 'push',
      reason: 'role',
      committedAt: new Date(toldAt).toISOString(),
      toldAt,
      drawnMs: 50,
      refreshStartedMs: null,
      refreshedMs: null,
      acceptedMs: null,
    };
    expect(world.traces).toEqual([
      told,
      { ...told, refreshStartedMs: 50 },
      { ...told, refreshStartedMs: 50, refreshedMs: 50 },
      { ...told, refreshStartedMs: 50, refreshedMs: 50, acceptedMs: 50 },
    ]);
  });
});

describe('what else is pushed', () => {
  it('is ignored where it is not understood', async () => {
    const world = await World.signedIn();
    for (const frame of ['{', '[]', 'null', '"x"', '{"type":"later_invention"}', '{"type":"permissions_changed"}']) {
      world.server.socket.deliver(frame);
    }
    await settle();
    expect(world.state.link.kind).toBe('live');
    expect(world.refreshes).toBe(0);
  });

  it('locks, and unlocks after a spread', async () => {
    const world = await World.signedIn();
    world.server.socket.deliver({ type: 'locked', retry_after_s: 30 });
    expect(world.state.lock).toEqual({ kind: 'locked', retryAt: world.clock.now + 30_000 });
    world.server.socket.deliver({ type: 'unlocked', within_ms: 4_000 });
    await world.clock.advance(1_999);
    expect(world.state.lock.kind).toBe('locked');
    await world.clock.advance(1);
    expect(world.state.lock).toEqual({ kind: 'open' });
  });
});

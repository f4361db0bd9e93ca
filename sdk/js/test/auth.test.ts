import { describe, expect, it } from 'vitest';
import { NetworkError, ProblemError, ProtocolError, SignedOutError } from '../src/index.ts';
import { settle } from './support/clock.ts';
import { json } from './support/fake-server.ts';
import { World } from './support/world.ts';

describe('signing in', () => {
  it('goes from signed out over signing in to signed in, with what the token says', async () => {
    const world = new World();
    expect(world.client.state).toEqual({ status: 'signed_out', reason: 'never' });
    expect(world.client.can('invoices:read')).toBe(false);
    await world.signIn();
    expect(world.states.map((state) => state.status).slice(0, 2)).toEqual(['signing_in', 'signed_in']);
    expect(world.state.identity).toEqual({ tenant: 'default', user: 'ben', session: 'session-1' });
    expect(world.state.roles).toEqual(['editor']);
    expect(world.client.can('invoices:read:42')).toBe(true);
    expect(world.client.can('invoices:delete')).toBe(false);
  });

  it('says why it failed, and is signed out again', async () => {
    const world = new World();
    const attempt = world.client.signIn({ username: 'ben', password: 'wrong' });
    await expect(attempt).rejects.toMatchObject({ kind: 'problem', status: 401, slug: 'bad-credentials' });
    await expect(attempt).rejects.toBeInstanceOf(ProblemError);
    expect(world.client.state).toEqual({ status: 'signed_out', reason: 'never' });
  });

  it('tells a server that does not answer from one that answers nonsense', async () => {
    const world = new World();
    world.server.script('/v1/login', 'no answer', json(200, { hello: 'captive portal' }));
    await expect(world.signIn()).rejects.toBeInstanceOf(NetworkError);
    await expect(world.signIn()).rejects.toBeInstanceOf(ProtocolError);
  });

  it('sends no cookies unless asked to', async () => {
    const world = await World.signedIn();
    expect(world.server.calls.every((call) => call.credentials === 'omit')).toBe(true);
    expect(JSON.parse(world.server.called('/v1/login')[0]?.body ?? '')).not.toHaveProperty('cookie');
  });

  it('never puts a token into the address of the socket', async () => {
    const world = await World.signedIn();
    expect(world.server.socket.url).toBe('wss://permcast.test/v1/ws');
    expect(world.server.socket.protocols).toEqual(['permcast.v1']);
    expect(world.server.socket.received[0]).toMatchObject({ type: 'hello', token: expect.any(String) });
  });

  it('gives way to a later sign-in', async () => {
    const world = new World();
    let answer = (_: Response) => undefined as void;
    world.server.script('/v1/login', () => new Promise((resolve) => (answer = resolve)));
    const first = world.client.signIn({ username: 'ben', password: 'secret' });
    await world.signIn();
    answer(json(401, {}));
    await expect(first).rejects.toBeInstanceOf(SignedOutError);
    expect(world.client.state.status).toBe('signed_in');
  });
});

describe('a session in a cookie', () => {
  it('is asked for at sign-in, and renewed without a token in the form', async () => {
    const world = await World.signedIn({ cookie: true });
    expect(JSON.parse(world.server.called('/v1/login')[0]?.body ?? '')).toMatchObject({ cookie: true });
    await world.client.refresh();
    const [renewal] = world.server.called('/oauth/token');
    expect(new URLSearchParams(renewal?.body).get('refresh_token')).toBeNull();
    expect(renewal?.credentials).toBe('same-origin');
  });

  it('is taken up again after a reload', async () => {
    const world = await World.signedIn({ cookie: true });
    const reloaded = new World({ cookie: true });
    expect(await reloaded.client.resume()).toBe(false);
    await world.client.signOut();
    expect(await world.client.resume()).toBe(true);
    expect(world.state.identity.user).toBe('ben');
  });
});

describe('a thin token', () => {
  it('has its permissions read from the server, again after each change', async () => {
    const world = await World.signedIn({}, ({ server }) => (server.thin = true));
    expect(world.client.can('invoices:read')).toBe(true);
    const pv = world.server.grant(['reports:read']);
    await settle();
    expect(world.client.can('invoices:read')).toBe(false);
    expect(world.client.can('reports:read')).toBe(true);
    expect(world.server.called('/v1/me').at(-1)?.headers.get('permcast-at-least')).toBe(pv);
  });
});

describe('the end of a session', () => {
  it('comes at once when asked for, and is told to the server', async () => {
    const world = await World.signedIn();
    const done = world.client.signOut();
    expect(world.client.state).toEqual({ status: 'signed_out', reason: 'signed_out' });
    expect(world.client.can('invoices:read')).toBe(false);
    await done;
    expect(world.server.called('/v1/logout')).toHaveLength(1);
    expect(world.server.open).toEqual([]);
    expect(world.clock.pending).toBe(0);
  });

  it('opens no socket for one who has gone again already', async () => {
    const world = new World();
    world.client.onChange((state) => {
      if (state.status === 'signed_in' && state.link.kind === 'connecting') void world.client.signOut();
    });
    await world.signIn();
    expect(world.client.state.status).toBe('signed_out');
    expect(world.server.sockets).toEqual([]);
  });

  it('comes also where the server does not hear of it', async () => {
    const world = await World.signedIn();
    world.server.script('/v1/logout', 'no answer');
    await world.client.signOut();
    expect(world.client.state.status).toBe('signed_out');
  });

  it('revokes the refresh token where the access token has expired', async () => {
    const world = await World.signedIn({ realtime: false });
    world.clock.sleep(901_000);
    world.server.script('/oauth/revoke', new Response(null, { status: 200 }));
    await world.client.signOut();
    expect(new URLSearchParams(world.server.called('/oauth/revoke')[0]?.body).get('token')).toBe('session-1-0');
  });

  it('is told with its reason', async () => {
    const world = await World.signedIn();
    world.server.socket.deliver({ type: 'session_revoked', reason: 'suspended' });
    world.server.socket.shut(4403);
    expect(world.client.state).toEqual({ status: 'signed_out', reason: 'suspended' });
    expect(world.clock.pending).toBe(0);
  });

  it('is noticed when a call is refused for it', async () => {
    const world = await World.signedIn({ realtime: false });
    world.server.endSessions();
    await expect(world.client.call('/v1/me')).rejects.toBeInstanceOf(SignedOutError);
    expect(world.client.state.status).toBe('signed_out');
    expect(world.refreshes).toBe(0);
  });

  it('makes every further call fail without asking the server', async () => {
    const world = new World();
    await expect(world.client.call('/v1/me')).rejects.toBeInstanceOf(SignedOutError);
    expect(world.server.calls).toEqual([]);
  });
});

import { describe, expect, it } from 'vitest';
import { NetworkError, ProblemError, TimeoutError } from '../src/index.ts';
import { settle } from './support/clock.ts';
import { json, problem } from './support/fake-server.ts';
import { World } from './support/world.ts';

const away = () => World.signedIn({ realtime: false });

describe('a call with a stale token', () => {
  it('is refused, refreshed to the version named, and sent again once', async () => {
    const world = await away();
    const pv = world.server.grant(['reports:read'], { tell: false });
    await world.client.call('/v1/things', { method: 'POST', json: { a: 1 } });
    expect(world.server.calls.map((call) => call.path)).toEqual([
      '/v1/login',
      '/v1/things',
      '/oauth/token',
      '/v1/things',
    ]);
    expect(world.server.called('/oauth/token')[0]?.headers.get('permcast-at-least')).toBe(pv);
    expect(world.server.called('/v1/things')[1]?.body).toBe('{"a":1}');
    expect(world.client.can('reports:read')).toBe(true);
    expect(world.traces[0]).toMatchObject({ pv, via: 'refused' });
  });

  it('is refused for good where a new token does not help', async () => {
    const world = await away();
    const refusal = () =>
      problem(401, 'unauthorised', 'No.', { 'www-authenticate': 'Bearer error="invalid_token"' });
    world.server.script('/v1/things', refusal(), refusal(), refusal());
    await expect(world.client.call('/v1/things')).rejects.toMatchObject({ status: 401 });
    expect(world.server.called('/v1/things')).toHaveLength(2);
    expect(world.refreshes).toBe(1);
  });

  it('does not go out at all where the client has been told already', async () => {
    const world = await World.signedIn();
    world.server.refreshWithinMs = 60_000;
    world.server.grant(['reports:read']);
    await world.client.call('/v1/things');
    expect(world.server.calls.slice(1).map((call) => call.path)).toEqual(['/oauth/token', '/v1/things']);
  });

  it('shares one refresh with all others', async () => {
    const world = await away();
    world.server.grant(['reports:read'], { tell: false });
    await Promise.all(['/v1/a', '/v1/b', '/v1/c'].map((path) => world.client.call(path)));
    expect(world.refreshes).toBe(1);
  });

  it('renews a token that has expired before it calls', async () => {
    const world = await away();
    world.clock.sleep(900_000);
    await world.client.call('/v1/things');
    expect(world.server.called('/v1/things')).toHaveLength(1);
    expect(world.refreshes).toBe(1);
  });
});

describe('a call that makes its own token stale', () => {
  it('refreshes without being refused first', async () => {
    const world = await away();
    const pv = world.server.grant(['reports:read'], { tell: false });
    world.server.script('/v1/things', json(200, { stale: true, change: { version: pv, seq: 2 } }));
    await world.client.call('/v1/things', { method: 'PUT', json: {} });
    await settle();
    expect(world.client.can('reports:read')).toBe(true);
    expect(world.server.called('/v1/things')).toHaveLength(1);
    expect(world.traces[0]).toMatchObject({ pv, via: 'own' });
  });
});

describe('a busy server', () => {
  it('is asked again after the time that it names, and a little more by chance', async () => {
    const world = await away();
    world.server.script('/v1/things', problem(429, 'busy', 'Later.', { 'retry-after': '2' }));
    const done = world.client.call('/v1/things', { method: 'POST', json: {} });
    await world.clock.advance(2_249);
    expect(world.server.called('/v1/things')).toHaveLength(1);
    await world.clock.advance(1);
    await done;
    expect(world.server.called('/v1/things')).toHaveLength(2);
  });

  it('is not asked for ever', async () => {
    const world = await away();
    const busy = () => problem(503, 'stale', 'Later.', { 'retry-after': '1' });
    world.server.script('/v1/things', busy(), busy(), busy(), busy());
    const done = expect(world.client.call('/v1/things')).rejects.toMatchObject({ status: 503, retryAfterMs: 1_000 });
    await world.clock.advance(20_000);
    await done;
    expect(world.server.called('/v1/things')).toHaveLength(4);
  });

  it('does not get a POST twice of which it may have done the first', async () => {
    const world = await away();
    world.server.script('/v1/things', problem(503, 'stale', 'Later.', { 'retry-after': '1' }));
    await expect(world.client.call('/v1/things', { method: 'POST', json: {} })).rejects.toBeInstanceOf(ProblemError);
    expect(world.server.called('/v1/things')).toHaveLength(1);
  });

  it('gives up a call that takes too long, and leaves no timer behind', async () => {
    const world = await away();
    const before = world.clock.pending;
    world.server.script('/v1/things', () => new Promise(() => undefined));
    const done = expect(world.client.call('/v1/things')).rejects.toBeInstanceOf(TimeoutError);
    await world.clock.advance(30_000);
    await done;
    expect(world.clock.pending).toBe(before);
  });
});

describe('what a call says', () => {
  it('asks for a version and for a receipt, and leaves no timer behind', async () => {
    const world = await away();
    const timers = world.clock.pending;
    await world.client.call('/v1/things', { method: 'PUT', json: {}, atLeast: 'aaaaaaaa.1', waitSeconds: 3 });
    expect(world.clock.pending).toBe(timers);
    const headers = world.server.called('/v1/things')[0]?.headers;
    expect(headers?.get('permcast-at-least')).toBe('aaaaaaaa.1');
    expect(headers?.get('prefer')).toBe('wait=3');
    expect(headers?.get('content-type')).toBe('application/json');
  });

  it('has nothing to say where the answer has no body', async () => {
    const world = await away();
    world.server.script('/v1/things', new Response(null, { status: 204 }));
    expect(await world.client.call('/v1/things', { method: 'DELETE' })).toBeUndefined();
  });
});

describe('an error', () => {
  it('is the problem that the server names', async () => {
    const world = await away();
    const body = {
      type: '/problems/invalid',
      title: 'Invalid',
      status: 422,
      detail: 'No such name.',
      errors: [{ pointer: '/name', detail: 'too long' }],
    };
    world.server.script('/v1/things', json(422, body));
    const error = await world.client.call('/v1/things').catch((caught: unknown) => caught);
    expect(error).toMatchObject({ kind: 'problem', slug: 'invalid', message: 'No such name.', problem: body });
  });

  it('is still a problem where a proxy answers with a page', async () => {
    const world = await away();
    const page = new Response('<h1>no</h1>', { status: 502, headers: { 'content-type': 'text/html' } });
    world.server.script('/v1/things', page);
    await expect(world.client.call('/v1/things')).rejects.toMatchObject({ status: 502, kind: 'problem' });
  });

  it('of the network is one of its own', async () => {
    const world = await away();
    world.server.script('/v1/things', 'no answer');
    await expect(world.client.call('/v1/things')).rejects.toBeInstanceOf(NetworkError);
  });

  it('is the reason of whoever aborts', async () => {
    const world = await away();
    const abort = new AbortController();
    world.server.script('/v1/things', () => new Promise(() => undefined));
    const done = world.client.call('/v1/things', { signal: abort.signal });
    await settle();
    abort.abort(new Error('changed my mind'));
    await expect(done).rejects.toThrow('changed my mind');
  });
});

describe('server-sent events', () => {
  const stream = (...chunks: string[]) => {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const chunk of chunks) controller.enqueue(new TextEncoder().encode(chunk));
        controller.close();
      },
    });
    return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
  };

  it('come whole, however the stream is torn', async () => {
    const world = await away();
    const torn = ['id: 7\nevent: chan', 'ge\ndata: {"a":', '1}\n\n: a comment\n\ndata: x\r', '\nda', 'ta:y\n\ndata: cut'];
    world.server.script('/v1/stream', stream(...torn));
    const events = [];
    for await (const event of world.client.events('/v1/stream', new AbortController().signal)) events.push(event);
    expect(events).toEqual([
      { event: 'change', data: '{"a":1}', id: '7' },
      { event: 'message', data: 'x\ny', id: '7' },
    ]);
  });

  it('are refused like any other call', async () => {
    const world = await away();
    world.server.script('/v1/stream', problem(403, 'forbidden', 'Not yours.'));
    const events = world.client.events('/v1/stream', new AbortController().signal);
    await expect(events.next()).rejects.toMatchObject({ status: 403 });
  });
});

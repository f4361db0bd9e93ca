/** From a sign-in at a real provider to a decision here, and to the next one after a change. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import * as client from 'openid-client';

import { ask, call, startPermcast } from './permcast.js';
import { API, CALLBACK, CLIENT, signIn, startProvider } from './provider.js';

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const kind = (word) => `urn:ietf:params:oauth:token-type:${word}`;
const insecure = { execute: [client.allowInsecureRequests] };

let provider;
let permcast;
/** What the client knows of the provider, and of permcast. */
let atProvider;
let atPermcast;

before(async () => {
  provider = await startProvider();
  permcast = await startPermcast([
    { issuer: provider.issuer, audiences: [CLIENT.id, API], algorithms: ['ES256'] },
  ]);
  atProvider = await client.discovery(new URL(provider.issuer), CLIENT.id, CLIENT.secret, undefined, insecure);
  atPermcast = await client.discovery(new URL(permcast.base), CLIENT.id, undefined, client.None(), {
    ...insecure,
    algorithm: 'oauth2',
  });
  const { root } = permcast;
  await root('POST', '/v1/tenants/default/roles', { name: 'viewer', permissions: ['invoices:read'] });
  await root('POST', '/v1/tenants/default/roles', { name: 'editor', permissions: ['invoices:edit'], includes: ['viewer'] });
  await newUser('ben', 'person', 'ben-at-the-provider');
  await newUser('robot', 'service', CLIENT.id);
});

after(async () => {
  await permcast?.stop();
  await provider?.stop();
});

async function newUser(id, kind, subject) {
  const identities = [{ issuer: provider.issuer, subject }];
  await permcast.root('POST', '/v1/tenants/default/users', { id, kind, identities });
  await permcast.root('PUT', `/v1/tenants/default/users/${id}/roles/editor`);
}

/** Signs in by the authorization code flow, with everything that a careful client checks. */
async function codeFlow(user) {
  const verifier = client.randomPKCECodeVerifier();
  const [state, nonce] = [client.randomState(), client.randomNonce()];
  const start = client.buildAuthorizationUrl(atProvider, {
    redirect_uri: CALLBACK,
    scope: 'openid api',
    resource: API,
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
    nonce,
  });
  const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, idTokenExpected: true };
  return client.authorizationCodeGrant(atProvider, await signIn(start, user), checks, { resource: API });
}

const exchange = (token, word) =>
  client.genericGrantRequest(atPermcast, EXCHANGE, { subject_token: token, subject_token_type: kind(word) });

const me = (token) => call(permcast.base, 'GET', '/v1/me', token);

test('an ID token is exchanged, a change makes the session stale, and a refresh makes it fresh', async () => {
  const { id_token: idToken } = await codeFlow('ben-at-the-provider');
  const session = await exchange(idToken, 'id_token');
  assert.equal(session.issued_token_type, kind('access_token'));
  assert.deepEqual((await me(session.access_token)).roles, ['editor', 'viewer']);

  const { change } = await permcast.root('DELETE', '/v1/tenants/default/users/ben/roles/editor');
  const refused = await ask(permcast.base, 'GET', '/v1/me', session.access_token);
  assert.equal(refused.status, 401);
  assert.ok(refused.headers.get('www-authenticate').includes(`pv="${change.version}"`));
  const fresh = await client.refreshTokenGrant(atPermcast, session.refresh_token);
  assert.deepEqual((await me(fresh.access_token)).roles, []);
  await permcast.root('PUT', '/v1/tenants/default/users/ben/roles/editor');
});

test('the access token of the code flow is good as it is, and for an exchange', async () => {
  const { access_token: token } = await codeFlow('ben-at-the-provider');
  const seen = await me(token);
  assert.deepEqual([seen.user, seen.session, seen.roles], ['ben', null, ['editor', 'viewer']]);
  await permcast.root('DELETE', '/v1/tenants/default/users/ben/roles/editor');
  assert.deepEqual((await me(token)).permissions, []);
  await permcast.root('PUT', '/v1/tenants/default/users/ben/roles/editor');
  assert.deepEqual((await me(token)).roles, ['editor', 'viewer']);
  const session = await exchange(token, 'access_token');
  assert.equal((await me(session.access_token)).user, 'ben');
});

test('a program with client credentials at the provider is its service account here', async () => {
  const { access_token: token } = await client.clientCredentialsGrant(atProvider, { resource: API, scope: 'api' });
  assert.equal((await me(token)).user, 'robot');
  const allowed = await ask(permcast.base, 'GET', '/v1/forward-auth?require=invoices:edit', token);
  assert.equal(allowed.status, 200);
  await permcast.root('PATCH', '/v1/tenants/default/users/robot', { status: 'suspended' });
  assert.equal((await ask(permcast.base, 'GET', '/v1/me', token)).status, 401);
  await assert.rejects(exchange(token, 'access_token'), (error) => error.error === 'invalid_grant');
});

test('who signs in there and is nobody here stays nobody', async () => {
  const { id_token: idToken, access_token: token } = await codeFlow('a-stranger');
  await assert.rejects(exchange(idToken, 'id_token'), (error) => error.error === 'invalid_grant');
  assert.equal((await ask(permcast.base, 'GET', '/v1/me', token)).status, 401);
});

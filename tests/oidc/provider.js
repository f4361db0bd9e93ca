/** `oidc-provider` on a free port of the loopback address, and somebody who signs in there as a browser does. */

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

/** The API whose access tokens are JWTs. */
export const API = 'https://api.test';
export const CLIENT = { id: 'app', secret: 'a secret between the app and its provider' };
export const CALLBACK = 'http://127.0.0.1/callback';

const ALGORITHM = 'ES256';

/** Resolves when it listens. */
export async function startProvider() {
  const server = createServer((request, response) => handler(request, response));
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: CLIENT.id,
        client_secret: CLIENT.secret,
        redirect_uris: [CALLBACK],
        grant_types: ['authorization_code', 'client_credentials'],
        response_types: ['code'],
        application_type: 'native',
        id_token_signed_response_alg: ALGORITHM,
      },
    ],
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: 'first', alg: ALGORITHM, use: 'sig' }] },
    cookies: { keys: ['of no consequence'] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => API,
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: 'api',
          audience: API,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: ALGORITHM } },
        }),
      },
    },
  });
  const handler = provider.callback();
  return { issuer, stop: () => new Promise((done) => server.close(done)) };
}

/** Follows an authorization request through the provider's own pages; resolves with where it ends: at the callback. */
export async function signIn(start, user) {
  const cookies = new Map();
  let [url, form] = [start, undefined];
  for (let step = 0; step < 20; step += 1) {
    if (url.href.startsWith(CALLBACK)) return url;
    const response = await fetch(url, {
      redirect: 'manual',
      method: form ? 'POST' : 'GET',
      body: form,
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') },
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
      if (value === '') cookies.delete(name);
      else cookies.set(name, value);
    }
    form = undefined;
    const next = response.headers.get('location');
    if (next !== null) {
      url = new URL(next, url);
      continue;
    }
    const page = await response.text();
    const prompt = /name="prompt" value="(\w+)"/.exec(page)?.[1];
    if (prompt === undefined) throw new Error(`no page to sign in on: ${response.status} ${page}`);
    url = new URL(/action="([^"]+)"/.exec(page)[1], url);
    form = new URLSearchParams(prompt === 'login' ? { prompt, login: user, password: 'any' } : { prompt });
  }
  throw new Error('the provider sends its visitor in circles');
}

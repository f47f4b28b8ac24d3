// People sign in with providers that Landline did not write: oidc-provider plays
// Google, Apple and an enterprise; openid-client is the provider's SDK in the app.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import * as oidc from 'openid-client';
import { Browser, Phone, call, expect, flow, pause, providerClients, refused, settings, startProviders } from './lib.mjs';

const providers = await startProviders('google', 'apple', 'acme');
const name = { google: 'google', apple: 'apple', acme: 'oidc:acme' };

// --- what a provider's SDK does in the app ---------------------------------

const sdks = {};

async function sdk(issuer) {
  const c = providerClients[issuer];
  const auth = c.auth === 'client_secret_post' ? oidc.ClientSecretPost(c.secret) : oidc.ClientSecretBasic(c.secret);
  sdks[issuer] ??= await oidc.discovery(new URL(settings.issuers[issuer]), c.id, c.secret, auth, { execute: [oidc.allowInsecureRequests] });
  return sdks[issuer];
}

// authorize has a person say yes at the provider, in a browser of their own.
async function authorize(issuer, person, more = {}) {
  const config = await sdk(issuer);
  const redirect = providerClients[issuer].redirect;
  const verifier = oidc.randomPKCECodeVerifier();
  const nonce = oidc.randomNonce();
  const url = oidc.buildAuthorizationUrl(config, {
    redirect_uri: redirect, scope: 'openid email profile', nonce,
    code_challenge: await oidc.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256', ...more,
  });
  const browser = new Browser();
  const end = await browser.atProvider(await browser.go(url, redirect), redirect, person);
  assert.ok(end.to, `the provider did not send ${person} back: ${end.status} ${end.page}`);
  return { config, to: end.to, verifier, nonce, redirect };
}

// codeOf is a credential with an authorization code.
async function codeOf(issuer, person) {
  const a = await authorize(issuer, person);
  return { provider: name[issuer], code: a.to.searchParams.get('code'), code_verifier: a.verifier, redirect_uri: a.redirect, nonce: a.nonce };
}

// idTokenOf is a credential with an ID token, which the app got itself.
async function idTokenOf(issuer, person) {
  const a = await authorize(issuer, person);
  const tokens = await oidc.authorizationCodeGrant(a.config, a.to, { pkceCodeVerifier: a.verifier, expectedNonce: a.nonce });
  return { provider: name[issuer], id_token: tokens.id_token, nonce: a.nonce };
}

// appleOf is what Apple's SDK gives: a code and an ID token at once, whose nonce
// is the hash of the app's.
async function appleOf(person) {
  const raw = randomBytes(16).toString('hex');
  const a = await authorize('apple', person, { response_type: 'code id_token', response_mode: 'fragment', nonce: createHash('sha256').update(raw).digest('hex') });
  const back = new URLSearchParams(a.to.hash.slice(1));
  return { provider: 'apple', code: back.get('code'), id_token: back.get('id_token'), code_verifier: a.verifier, redirect_uri: a.redirect, nonce: raw };
}

const claimsOf = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
const headOf = (token) => JSON.parse(Buffer.from(token.split('.')[0], 'base64url'));

async function account(credential) {
  const phone = await Phone.install();
  await phone.signedIn(credential);
  return phone;
}

async function ended(phone) {
  const res = await call('GET', '/v1/me', { token: phone.token });
  assert.equal(res.status, 401, res.text);
}

const refresh = (token) => call('POST', '/oauth/token', { form: { grant_type: 'refresh_token', refresh_token: token } });

// --- Google ----------------------------------------------------------------

const google = 'oidc-provider as Google';
let anna;
let annas;

await flow(google, 'an ID token makes the anonymous user an account that keeps its id', async () => {
  anna = await Phone.install();
  const before = anna.user.id;
  annas = await idTokenOf('google', 'anna');
  const got = await anna.signedIn(annas);
  assert.equal(got.user.id, before);
  assert.equal(got.user.kind, 'account');
  assert.equal(got.merged, undefined);
  const [identity] = (await anna.me()).identities;
  assert.deepEqual([identity.provider, identity.email, identity.email_verified], ['google', 'anna@people.example', true]);
});

await flow(google, 'the same sign-in again gets the same answer, in parallel too', async () => {
  const all = await Promise.all([anna.signIn(annas), anna.signIn(annas), anna.signIn(annas)]);
  for (const res of all) {
    assert.equal(res.status, 200, res.text);
    assert.equal(res.json.user.id, anna.user.id);
    assert.equal(res.json.session.id, anna.session.id);
  }
  assert.equal((await anna.me()).identities.length, 1);
});

await flow(google, 'an ID token that was used is refused on another installation', async () => {
  const thief = await Phone.install();
  await thief.refusedSignIn(403, 'credential_used', annas);
  assert.equal((await thief.me()).kind, 'anonymous');
});

await flow(google, 'a second phone signs in as the same person, and its anonymous data is merged', async () => {
  const second = await Phone.install();
  const anonymous = { ...second.user };
  const session = { ...second.session };
  await expect(200, 'PATCH', '/v1/me', { token: second.token, body: { name: 'Anna of the second phone' } });
  const credential = await idTokenOf('google', 'anna');
  const got = await second.signedIn(credential);
  assert.equal(got.user.id, anna.user.id);
  assert.deepEqual([got.merged.from, got.merged.into], [anonymous.id, anna.user.id]);
  // The answer may have been lost: the call again says the same, and so does a refresh with what the phone had.
  const again = await second.signIn(credential);
  assert.equal(again.status, 200, again.text);
  assert.equal(again.json.merged.id, got.merged.id);
  const next = await refresh(session.refresh_token);
  assert.equal(next.status, 200, next.text);
  const me = await expect(200, 'GET', '/v1/me', { token: next.json.access_token });
  assert.equal(me.id, anna.user.id);
  assert.equal((await anna.me()).kind, 'account');
});

await flow(google, 'a wrong nonce, another app\'s token and a forged signature are refused, and cost the session nothing', async () => {
  const phone = await Phone.install();
  const good = await idTokenOf('google', 'eva');
  const reason = async (credential) => (await phone.refusedSignIn(403, 'credential_invalid', credential)).json.reason;
  assert.equal(await reason({ ...good, nonce: 'another' }), 'nonce');
  const claims = claimsOf(good.id_token);
  const other = await providers.do('sign', { issuer: 'google', claims: { ...claims, aud: 'app.of.others' } });
  assert.equal(await reason({ ...good, id_token: other }), 'audience');
  const forged = await providers.do('sign', { issuer: 'acme', claims, header: { kid: headOf(good.id_token).kid } });
  assert.equal(await reason({ ...good, id_token: forged }), 'signature');
  const none = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${good.id_token.split('.')[1]}.`;
  assert.match(await reason({ ...good, id_token: none }), /algorithm|malformed/);
  await phone.signedIn(good);
});

await flow(google, 'after signing out, the credential that was used is no way back in; a new one is', async () => {
  const phone = await Phone.install();
  const used = await idTokenOf('google', 'hugo');
  const first = await phone.signedIn(used);
  await expect(204, 'POST', '/v1/auth/sign-out', { token: phone.token });
  await ended(phone);
  const back = await expect(200, 'POST', '/v1/installations', { body: { installation_id: phone.installation.id, installation_secret: phone.installation.secret } });
  assert.equal(back.user.kind, 'anonymous');
  phone.keep(back);
  await phone.refusedSignIn(403, 'credential_used', used);
  assert.equal((await phone.signedIn(await idTokenOf('google', 'hugo'))).user.id, first.user.id);
});

await flow(google, 'a notice of Cross-Account Protection ends the person\'s sessions', async () => {
  const phone = await account(await idTokenOf('google', 'gina'));
  const now = Math.floor(Date.now() / 1000);
  const notice = await providers.do('sign', {
    issuer: 'google', header: { typ: 'secevent+jwt' },
    claims: {
      iss: settings.issuers.google, aud: providerClients.google.id, iat: now + 1, jti: crypto.randomUUID(),
      events: { 'https://schemas.openid.net/secevent/risc/event-type/sessions-revoked': { subject: { subject_type: 'iss-sub', iss: settings.issuers.google, sub: 'gina' } } },
    },
  });
  const push = (body) => fetch(`${settings.landline}/v1/auth/notices/google`, { method: 'POST', headers: { 'Content-Type': 'application/secevent+jwt' }, body });
  assert.equal((await push(`${notice.slice(0, -8)}AAAAAAAA`)).status, 400);
  const res = await push(notice);
  assert.equal(res.status, 200, await res.text());
  await ended(phone);
  assert.equal((await push(notice)).status, 200);
});

// --- an enterprise ---------------------------------------------------------

const acme = 'oidc-provider as an enterprise';
let bob;
let bobs;

await flow(acme, 'an authorization code with PKCE makes an account', async () => {
  bobs = await codeOf('acme', 'bob');
  bob = await account(bobs);
  assert.equal((await bob.me()).identities[0].email, 'bob@people.example');
});

await flow(acme, 'the same code again gets the same answer; another installation is refused', async () => {
  const res = await bob.signIn(bobs);
  assert.equal(res.status, 200, res.text);
  assert.equal(res.json.session.id, bob.session.id);
  await (await Phone.install()).refusedSignIn(403, 'credential_used', bobs);
});

await flow(acme, 'a code with a wrong verifier, or for another redirect URI, is refused', async () => {
  const phone = await Phone.install();
  const res = await phone.refusedSignIn(403, 'credential_invalid', { ...await codeOf('acme', 'carl'), code_verifier: oidc.randomPKCECodeVerifier() });
  assert.equal(res.json.reason, 'code');
  await phone.refusedSignIn(403, 'credential_invalid', { ...await codeOf('acme', 'carl'), redirect_uri: 'com.attacker:/callback' });
  assert.equal((await phone.me()).kind, 'anonymous');
});

await flow(acme, 'a second provider is linked, opens the same account, and the first is unlinked; the last one cannot be', async () => {
  const dora = await account(await idTokenOf('google', 'dora'));
  const [first] = (await dora.me()).identities;
  const linked = await expect(200, 'POST', '/v1/auth/link', { token: dora.token, body: await codeOf('acme', 'dora-at-work') });
  assert.equal(linked.provider, 'oidc:acme');
  const second = await account(await codeOf('acme', 'dora-at-work'));
  assert.equal(second.user.id, dora.user.id);
  await expect(204, 'POST', '/v1/auth/unlink', { token: second.token, body: { identity_id: first.id } });
  const left = (await second.me()).identities;
  assert.deepEqual(left.map((i) => i.provider), ['oidc:acme']);
  await refused(409, 'last_identity', 'POST', '/v1/auth/unlink', { token: second.token, body: { identity_id: left[0].id } });
});

await flow(acme, 'somebody else\'s sign-in cannot be linked', async () => {
  const emil = await account(await idTokenOf('google', 'emil'));
  await refused(409, 'identity_in_use', 'POST', '/v1/auth/link', { token: emil.token, body: await codeOf('acme', 'bob') });
  assert.equal((await emil.me()).identities.length, 1);
});

await flow(acme, 'the same verified address at another provider is a question and no link; pending_link answers it', async () => {
  const nora = await account(await idTokenOf('google', 'nora'));
  const phone = await Phone.install();
  const res = await phone.refusedSignIn(409, 'account_exists_other_provider', await codeOf('acme', 'nora'));
  assert.equal((await phone.me()).kind, 'anonymous');
  const got = await phone.signedIn({ ...await idTokenOf('google', 'nora'), pending_link: res.json.pending_link });
  assert.equal(got.user.id, nora.user.id);
  assert.deepEqual((await phone.me()).identities.map((i) => i.provider).sort(), ['google', 'oidc:acme']);
  assert.equal((await account(await codeOf('acme', 'nora'))).user.id, nora.user.id);
});

await flow(acme, 'an address that the provider did not verify joins nobody', async () => {
  const one = await account(await idTokenOf('google', 'unverified-otto'));
  const other = await account(await codeOf('acme', 'unverified-otto'));
  assert.notEqual(one.user.id, other.user.id);
});

await flow(acme, 'the provider\'s clock: 45 s off is accepted; minutes ahead and old tokens are refused, with the reason', async () => {
  const at = async (seconds) => {
    await providers.do('skew', { seconds });
    try {
      return await idTokenOf('acme', 'clara');
    } finally {
      await providers.do('skew', { seconds: 0 });
    }
  };
  const phone = await Phone.install();
  assert.equal((await phone.refusedSignIn(403, 'credential_invalid', await at(300))).json.reason, 'not_yet');
  assert.equal((await phone.refusedSignIn(403, 'credential_invalid', await at(-900))).json.reason, 'too_old');
  await phone.signedIn(await at(45));
  await phone.signedIn(await at(-45));
  await phone.signedIn(await at(-300));
});

await flow(acme, 'the provider is down: 503 with Retry-After for a code, which is good again afterwards; ID tokens go on being accepted', async () => {
  const phone = await Phone.install();
  const code = await codeOf('acme', 'fred');
  const token = await idTokenOf('acme', 'greta');
  await providers.do('down', { issuer: 'acme' });
  let wait;
  try {
    const res = await phone.refusedSignIn(503, 'provider_unavailable', code);
    wait = Number(res.headers.get('retry-after'));
    assert.ok(wait > 0 && wait <= 60, `Retry-After ${wait}`);
    assert.equal(res.json.error, undefined);
    assert.equal((await phone.me()).kind, 'anonymous');
    await account(token);
  } finally {
    await providers.do('up', { issuer: 'acme' });
  }
  await pause(wait);
  await phone.signedIn(code);
  assert.equal((await phone.me()).identities[0].email, 'fred@people.example');
});

// --- Apple -----------------------------------------------------------------

const apple = 'oidc-provider as Apple';

await flow(apple, 'the provider is down before its keys were ever fetched: nothing is accepted, and the same credential is good afterwards', async () => {
  const phone = await Phone.install();
  const credential = await appleOf('gus');
  await providers.do('down', { issuer: 'apple' });
  let wait;
  try {
    const res = await phone.refusedSignIn(503, 'provider_unavailable', credential);
    wait = Number(res.headers.get('retry-after'));
    assert.ok(wait > 0 && wait <= 60, `Retry-After ${wait}`);
  } finally {
    await providers.do('up', { issuer: 'apple' });
  }
  await pause(wait);
  await phone.signedIn(credential);
});

await flow(apple, 'code and ID token with a hashed nonce, exchanged with the team\'s signed secret', async () => {
  const hana = await account({ ...await appleOf('hana'), name: 'Hana Kova' });
  const [identity] = (await hana.me()).identities;
  assert.deepEqual([identity.provider, identity.name !== ''], ['apple', true]);
  const calls = await providers.do('calls', { issuer: 'apple', path: '/token' });
  assert.equal(calls.at(-1)?.status, 200, JSON.stringify(calls));
});

await flow(apple, 'code and ID token of different people are refused', async () => {
  const [a, b] = [await appleOf('ida'), await appleOf('jan')];
  await (await Phone.install()).refusedSignIn(403, 'credential_invalid', { ...a, code: b.code, code_verifier: b.code_verifier });
});

await flow(apple, 'deleting the account revokes Apple\'s token, and the sessions end', async () => {
  const kim = await account(await appleOf('kim'));
  const before = await providers.do('destroyed', { issuer: 'apple' });
  await expect(202, 'DELETE', '/v1/me', { token: kim.token });
  await ended(kim);
  const deadline = Date.now() + 120_000;
  while (await providers.do('destroyed', { issuer: 'apple' }) === before) {
    assert.ok(Date.now() < deadline, `no revocation: ${JSON.stringify(await providers.do('calls', { issuer: 'apple', path: '/token/revocation' }))}`);
    await pause(0.1);
  }
  const calls = await providers.do('calls', { issuer: 'apple', path: '/token/revocation' });
  assert.deepEqual(calls.map((c) => [c.method, c.status]), [['POST', 200]]);
  const dead = await refresh(kim.session.refresh_token);
  assert.deepEqual([dead.status, dead.json.error], [400, 'invalid_grant'], dead.text);
});

await flow(apple, 'the notice that consent was revoked ends the sessions', async () => {
  const lea = await account(await appleOf('lea'));
  const now = Math.floor(Date.now() / 1000) + 1;
  const events = JSON.stringify({ type: 'consent-revoked', sub: 'lea', event_time: now * 1000 });
  const payload = await providers.do('sign', { issuer: 'apple', claims: { iss: settings.issuers.apple, aud: providerClients.apple.id, iat: now, jti: crypto.randomUUID(), events } });
  const res = await call('POST', '/v1/auth/notices/apple', { body: { payload } });
  assert.equal(res.status, 200, res.text);
  await ended(lea);
});

// --- keys ------------------------------------------------------------------

await flow(google, 'the provider\'s keys are replaced: the new one is fetched, the old one ends', async () => {
  const old = await idTokenOf('google', 'mia');
  await providers.do('rotate', { issuer: 'google' });
  delete sdks.google; // openid-client keeps the old keys as well
  await (await Phone.install()).signedIn(await idTokenOf('google', 'mia')); // at once
  const late = await (await Phone.install()).refusedSignIn(403, 'credential_invalid', old);
  assert.equal(late.json.reason, 'unknown_key');
});

providers.end();

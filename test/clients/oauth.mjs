// OAuth clients that Landline did not write use its authorization server. People
// sign in on the hosted pages, in a browser without scripts, with an enterprise's
// provider that oidc-provider plays.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import * as dpop from 'dpop';
import * as jose from 'jose';
import * as oauth from 'oauth4webapi';
import * as oidc from 'openid-client';
import { Browser, Phone, call, control, expect, flow, pause, settings, startProviders } from './lib.mjs';

const require = createRequire(import.meta.url);
const appauth = require('@openid/appauth');
const nodeAppauth = require('@openid/appauth/built/node_support');
const providers = await startProviders('acme');
const issuer = new URL(settings.landline);
const insecure = { [oauth.allowInsecureRequests]: true };
const exchangeGrant = 'urn:ietf:params:oauth:grant-type:token-exchange';
const accessTokenType = 'urn:ietf:params:oauth:token-type:access_token';

// signIn takes a person through the hosted pages, and returns where the browser is sent.
async function signIn(address, redirect, person = 'olga', browser = new Browser()) {
  let at = await browser.go(address, redirect);
  for (let n = 0; n < 10 && !at.to; n++) {
    assert.equal(at.status, 200, `${at.url}: ${at.status}\n${at.page}`);
    assert.doesNotMatch(at.page, /<script/i);
    if (/\bacme\s*<\/a>/.test(at.page)) at = await browser.atProvider(await browser.link(at, redirect, 'acme'), redirect, person);
    else if (/value="allow"/.test(at.page)) at = await browser.press(at, redirect, 'step', 'allow');
    else at = await browser.press(at, redirect, 'user');
  }
  assert.ok(at.to, 'the hosted pages lead nowhere');
  return at.to;
}

// token is a request to the token endpoint as it goes over the wire.
const token = (form, headers) => call('POST', '/oauth/token', { form, headers });

async function userOf(accessToken) { return (await expect(200, 'GET', '/v1/me', { token: accessToken })).id; }

// rejects is assert.rejects that returns the error.
async function rejects(promise) {
  try {
    await promise;
  } catch (err) {
    return err;
  }
  throw new assert.AssertionError({ message: 'was not refused' });
}

// --- openid-client ---------------------------------------------------------

const web = await oidc.discovery(issuer, 'web', settings.secret, oidc.ClientSecretBasic(settings.secret), { execute: [oidc.allowInsecureRequests] });
const webRedirect = 'https://web.example.test/callback';

// webFlow is a whole authorization code flow.
async function webFlow({ config = web, redirect = webRedirect, scope = 'openid email profile offline_access app', more = {}, checks = {}, handle, browser, person } = {}) {
  const verifier = oidc.randomPKCECodeVerifier();
  const [state, nonce] = [oidc.randomState(), oidc.randomNonce()];
  const url = oidc.buildAuthorizationUrl(config, {
    redirect_uri: redirect, scope, state, nonce, code_challenge: await oidc.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256', ...more,
  });
  const to = await signIn(url, redirect, person, browser);
  const expected = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, idTokenExpected: true, ...checks };
  return { tokens: await oidc.authorizationCodeGrant(config, to, expected, undefined, handle && { DPoP: handle }) };
}

await flow('openid-client', 'discovery', async () => {
  const m = web.serverMetadata();
  assert.equal(m.issuer, settings.landline);
  assert.ok(m.supportsPKCE());
});

let signedIn;

await flow('openid-client', 'code with PKCE, state, nonce and iss; the ID token verifies', async () => {
  oidc.enableNonRepudiationChecks(web); // verify the signature although it came over a connection of our own
  signedIn = (await webFlow()).tokens;
  assert.equal(signedIn.token_type, 'bearer');
  assert.equal(typeof signedIn.expires_in, 'number');
  const claims = signedIn.claims();
  assert.equal(claims.iss, settings.landline);
  assert.ok(claims.auth_time && claims.sid && claims.at_hash);
  const head = jose.decodeProtectedHeader(signedIn.id_token);
  assert.equal(head.alg, 'RS256');
});

await flow('openid-client', 'userinfo', async () => {
  const info = await oidc.fetchUserInfo(web, signedIn.access_token, signedIn.claims().sub);
  assert.equal(info.email, 'olga@people.example');
  assert.equal(info.email_verified, true);
});

await flow('openid-client', 'a protected resource', async () => {
  const res = await oidc.fetchProtectedResource(web, signedIn.access_token, new URL('/v1/me', issuer), 'GET');
  assert.equal((await res.json()).id, signedIn.claims().sub);
});

await flow('openid-client', 'introspection', async () => {
  const seen = await oidc.tokenIntrospection(web, signedIn.access_token);
  assert.deepEqual([seen.active, seen.sub, seen.client_id, seen.iss], [true, signedIn.claims().sub, 'web', settings.landline]);
  assert.equal((await oidc.tokenIntrospection(web, signedIn.refresh_token)).active, true);
  assert.deepEqual(await oidc.tokenIntrospection(web, 'no token at all'), { active: false });
});

await flow('openid-client', 'refresh, twice with the same token because the answer was lost, and on', async () => {
  const lost = await oidc.refreshTokenGrant(web, signedIn.refresh_token);
  const again = await oidc.refreshTokenGrant(web, signedIn.refresh_token);
  assert.equal(again.refresh_token, lost.refresh_token);
  const third = await oidc.refreshTokenGrant(web, again.refresh_token);
  assert.notEqual(third.refresh_token, again.refresh_token);
  const [a, b, c] = await Promise.all([1, 2, 3].map(() => oidc.refreshTokenGrant(web, third.refresh_token)));
  assert.equal(new Set([a, b, c].map((t) => t.refresh_token)).size, 1);
  const { sub } = signedIn.claims();
  signedIn = a;
  assert.equal(await userOf(a.access_token), sub);
});

await flow('openid-client', 'a refresh token from before the last two is refused, and says why', async () => {
  const first = (await webFlow()).tokens.refresh_token;
  const second = (await oidc.refreshTokenGrant(web, first)).refresh_token;
  const third = (await oidc.refreshTokenGrant(web, second)).refresh_token;
  const err = await rejects(oidc.refreshTokenGrant(web, first));
  assert.deepEqual([err.status, err.error, err.cause.reason], [400, 'invalid_grant', 'stale_duplicate']);
  await oidc.refreshTokenGrant(web, third); // which came at once, so that it was no thief: the session lives
});

await flow('openid-client', 'a browser that is signed in: prompt=none asks nothing, prompt=login asks again, max_age is kept', async () => {
  const browser = new Browser();
  const first = (await webFlow({ browser })).tokens.claims();
  const silent = (await webFlow({ browser, more: { prompt: 'none' }, person: 'nobody must sign in' })).tokens.claims();
  assert.deepEqual([silent.sub, silent.auth_time], [first.sub, first.auth_time]);
  const again = (await webFlow({ browser, more: { prompt: 'login' } })).tokens.claims();
  assert.equal(again.sub, first.sub);
  assert.ok(again.auth_time >= first.auth_time);
  const aged = (await webFlow({ browser, more: { max_age: '3600' }, checks: { maxAge: 3600 } })).tokens.claims();
  assert.equal(aged.sub, first.sub);
});

await flow('openid-client', 'sign-out at the server, and the way back to the client', async () => {
  const browser = new Browser();
  const { tokens } = await webFlow({ browser });
  const after = 'https://web.example.test/bye';
  const url = oidc.buildEndSessionUrl(web, { post_logout_redirect_uri: after, id_token_hint: tokens.id_token, state: 'out' });
  let at = await browser.go(url, after);
  if (!at.to) at = await browser.press(at, after, 'step', 'sign_out');
  assert.equal(at.to.href, `${after}?state=out`);
  const err = await rejects(webFlow({ browser, more: { prompt: 'none' } }));
  assert.equal(err.error, 'login_required', String(err));
});

await flow('openid-client', 'token exchange for another service, and not for one that is not configured', async () => {
  const params = { subject_token: signedIn.access_token, subject_token_type: accessTokenType };
  const got = await oidc.genericGrantRequest(web, exchangeGrant, { ...params, audience: 'https://reports.example.test' });
  assert.equal(got.issued_token_type, accessTokenType);
  assert.equal(jose.decodeJwt(got.access_token).aud, 'https://reports.example.test');
  assert.equal((await rejects(oidc.genericGrantRequest(web, exchangeGrant, { ...params, audience: 'https://others.example.test' }))).error, 'invalid_target');
});

await flow('openid-client', 'revocation ends the session; a token that is not known is no error', async () => {
  await oidc.tokenRevocation(web, 'no token at all');
  await oidc.tokenRevocation(web, signedIn.refresh_token);
  const err = await rejects(oidc.refreshTokenGrant(web, signedIn.refresh_token));
  assert.deepEqual([err.status, err.error], [400, 'invalid_grant']);
  assert.equal((await oidc.tokenIntrospection(web, signedIn.access_token)).active, false);
  const res = await call('GET', '/v1/me', { token: signedIn.access_token });
  assert.equal(res.status, 401);
});

await flow('openid-client', 'a pushed authorization request', async () => {
  const verifier = oidc.randomPKCECodeVerifier();
  const state = oidc.randomState();
  const url = await oidc.buildAuthorizationUrlWithPAR(web, {
    redirect_uri: webRedirect, scope: 'openid app', state, code_challenge: await oidc.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  });
  assert.deepEqual([...url.searchParams.keys()].sort(), ['client_id', 'request_uri']);
  const to = await signIn(url, webRedirect);
  const tokens = await oidc.authorizationCodeGrant(web, to, { pkceCodeVerifier: verifier, expectedState: state, idTokenExpected: true });
  assert.ok(tokens.claims().sub);
});

await flow('openid-client', 'a wrong client secret is invalid_client with a challenge', async () => {
  const other = await oidc.discovery(issuer, 'web', 'wrong', oidc.ClientSecretBasic('wrong'), { execute: [oidc.allowInsecureRequests] });
  const err = await rejects(oidc.refreshTokenGrant(other, 'any'));
  assert.ok(err instanceof oidc.WWWAuthenticateChallengeError, String(err));
  assert.deepEqual([err.status, err.cause[0].scheme], [401, 'basic']);
  const res = await token({ grant_type: 'refresh_token', refresh_token: 'any' }, { Authorization: `Basic ${btoa('web:wrong')}` });
  assert.deepEqual([res.status, res.json.error], [401, 'invalid_client']);
  assert.match(res.headers.get('www-authenticate'), /^Basic /);
});

await flow('openid-client', 'DPoP: code, refresh and resource with a bound token, which is refused as Bearer', async () => {
  const bound = await oidc.discovery(issuer, 'bound', undefined, oidc.None(), { execute: [oidc.allowInsecureRequests] });
  const keys = await oidc.randomDPoPKeyPair('ES256');
  const handle = oidc.getDPoPHandle(bound, keys);
  const redirect = 'com.example.bound:/callback';
  const { tokens } = await webFlow({ config: bound, redirect, scope: 'openid app offline_access', more: { dpop_jkt: await handle.calculateThumbprint() }, handle });
  assert.equal(tokens.token_type, 'dpop');
  const next = await oidc.refreshTokenGrant(bound, tokens.refresh_token, undefined, { DPoP: handle });
  const res = await oidc.fetchProtectedResource(bound, next.access_token, new URL('/v1/me', issuer), 'GET', null, undefined, { DPoP: handle });
  assert.equal((await res.json()).id, tokens.claims().sub);
  assert.equal((await call('GET', '/v1/me', { token: next.access_token })).status, 401);
  const thief = oidc.getDPoPHandle(bound, await oidc.randomDPoPKeyPair('ES256'));
  assert.equal((await rejects(oidc.refreshTokenGrant(bound, next.refresh_token, undefined, { DPoP: thief }))).error, 'invalid_grant');
  assert.ok((await rejects(oidc.refreshTokenGrant(bound, next.refresh_token))).error);
  await oidc.refreshTokenGrant(bound, next.refresh_token, undefined, { DPoP: handle });
});

// --- oauth4webapi ----------------------------------------------------------

const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure }));
const partner = { client_id: 'partner' };
const loopback = 'http://127.0.0.1:53682/callback'; // registered without a port

async function partnerFlow(client = partner, redirect = loopback, scope = 'openid email offline_access', tokenOptions = {}, person = 'pavel') {
  const verifier = oauth.generateRandomCodeVerifier();
  const [state, nonce] = [oauth.generateRandomState(), oauth.generateRandomNonce()];
  const url = new URL(as.authorization_endpoint);
  url.search = new URLSearchParams({
    client_id: client.client_id, redirect_uri: redirect, response_type: 'code', scope, state, nonce,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  });
  const params = oauth.validateAuthResponse(as, client, await signIn(url, redirect, person), state);
  const request = async () => oauth.authorizationCodeGrantRequest(as, client, oauth.None(), params, redirect, verifier, { ...insecure, ...tokenOptions });
  const process = async (res) => {
    const got = await oauth.processAuthorizationCodeResponse(as, client, res, { expectedNonce: nonce, requireIdToken: true });
    await oauth.validateApplicationLevelSignature(as, res, insecure);
    return got;
  };
  return { params, request, process, redirect, verifier };
}

let partners;
let partnerCode;

await flow('oauth4webapi', 'discovery as OAuth and as OpenID Connect', async () => {
  const openid = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oidc', ...insecure }));
  assert.deepEqual(openid, as);
});

await flow('oauth4webapi', 'code with PKCE on a loopback address, with the user\'s consent; the ID token\'s signature verifies', async () => {
  partnerCode = await partnerFlow();
  partners = await partnerCode.process(await partnerCode.request());
  assert.equal(partners.scope, 'openid email offline_access');
});

await flow('oauth4webapi', 'userinfo; the token of somebody else\'s client does not open the app\'s API', async () => {
  const { sub } = oauth.getValidatedIdTokenClaims(partners);
  const info = await oauth.processUserInfoResponse(as, partner, sub, await oauth.userInfoRequest(as, partner, partners.access_token, insecure));
  assert.equal(info.email, 'pavel@people.example');
  const err = await rejects(oauth.protectedResourceRequest(partners.access_token, 'GET', new URL('/v1/me', issuer), undefined, null, insecure));
  assert.ok(err instanceof oauth.WWWAuthenticateChallengeError, String(err));
  assert.deepEqual([err.status, err.cause[0].scheme, err.cause[0].parameters.error], [403, 'bearer', 'insufficient_scope']);
});

await flow('oauth4webapi', 'refresh, again with a token whose answer was lost', async () => {
  const refresh = async (t) => oauth.processRefreshTokenResponse(as, partner, await oauth.refreshTokenGrantRequest(as, partner, oauth.None(), t, insecure));
  const lost = await refresh(partners.refresh_token);
  const again = await refresh(partners.refresh_token);
  assert.equal(again.refresh_token, lost.refresh_token);
  partners = await refresh(again.refresh_token);
});

await flow('oauth4webapi', 'a code that is used twice is refused, and what was issued for it ends', async () => {
  const again = await rejects(partnerCode.process(await partnerCode.request()));
  assert.ok(again instanceof oauth.ResponseBodyError, String(again));
  assert.equal(again.error, 'invalid_grant');
  const err = await rejects(oauth.processRefreshTokenResponse(as, partner, await oauth.refreshTokenGrantRequest(as, partner, oauth.None(), partners.refresh_token, insecure)));
  assert.equal(err.error, 'invalid_grant');
});

await flow('oauth4webapi', 'a code with another verifier, redirect URI or client is refused, and is good afterwards for its own', async () => {
  const mine = await partnerFlow();
  const attempt = async (client, redirect, verifier) => {
    const res = await oauth.authorizationCodeGrantRequest(as, client, oauth.None(), mine.params, redirect, verifier, insecure);
    return (await rejects(oauth.processAuthorizationCodeResponse(as, client, res))).error;
  };
  assert.equal(await attempt(partner, mine.redirect, oauth.generateRandomCodeVerifier()), 'invalid_grant');
  assert.equal(await attempt(partner, 'http://127.0.0.1:1/callback', mine.verifier), 'invalid_grant');
  assert.equal(await attempt({ client_id: 'com.example.clients' }, mine.redirect, mine.verifier), 'invalid_grant');
  await mine.process(await mine.request());
});

await flow('oauth4webapi', 'introspection by a confidential client; a public one is refused', async () => {
  const mine = await partnerFlow();
  const got = await mine.process(await mine.request());
  const client = { client_id: 'web' };
  const seen = await oauth.processIntrospectionResponse(as, client, await oauth.introspectionRequest(as, client, oauth.ClientSecretPost(settings.secret), got.access_token, insecure));
  assert.deepEqual([seen.active, seen.client_id], [true, 'partner']);
  const res = await oauth.introspectionRequest(as, partner, oauth.None(), got.access_token, insecure);
  assert.equal(res.status, 401);
  await oauth.processRevocationResponse(await oauth.revocationRequest(as, partner, oauth.None(), got.refresh_token, insecure));
  const gone = await oauth.processIntrospectionResponse(as, client, await oauth.introspectionRequest(as, client, oauth.ClientSecretPost(settings.secret), got.access_token, insecure));
  assert.deepEqual(gone, { active: false });
});

await flow('oauth4webapi', 'DPoP with a wrong clock: the nonce challenge is answered, at the token endpoint and by a resource', async () => {
  const client = { client_id: 'bound', [oauth.clockSkew]: -3600 };
  const handle = oauth.DPoP(client, await oauth.generateKeyPair('ES256'));
  const mine = await partnerFlow(client, 'com.example.bound:/callback', 'openid app offline_access', { DPoP: handle });
  const challenge = await rejects(mine.process(await mine.request()));
  assert.ok(oauth.isDPoPNonceError(challenge), String(challenge));
  assert.equal(challenge.error, 'use_dpop_nonce');
  const got = await mine.process(await mine.request()); // the code was not used up
  assert.equal(got.token_type, 'dpop');
  const resource = () => oauth.protectedResourceRequest(got.access_token, 'GET', new URL('/v1/me', issuer), undefined, null, { DPoP: handle, ...insecure });
  const res = await resource().catch((err) => {
    assert.ok(oauth.isDPoPNonceError(err), String(err));
    return resource();
  });
  assert.equal(res.status, 200);
});

await flow('oauth4webapi', 'private_key_jwt: an assertion of the client in place of a secret, good once', async () => {
  const client = { client_id: 'backend' };
  const key = await jose.importJWK(settings.backendKey, 'ES256');
  let sent;
  const auth = oauth.PrivateKeyJwt({ key, kid: settings.backendKey.kid });
  const spy = async (...args) => { await auth(...args); sent = new URLSearchParams(args[2]); };
  const verifier = oauth.generateRandomCodeVerifier();
  const redirect = 'https://backend.example.test/callback';
  const url = new URL(as.authorization_endpoint);
  url.search = new URLSearchParams({ client_id: 'backend', redirect_uri: redirect, response_type: 'code', scope: 'openid app', code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256' });
  const params = oauth.validateAuthResponse(as, client, await signIn(url, redirect), oauth.expectNoState);
  const got = await oauth.processAuthorizationCodeResponse(as, client, await oauth.authorizationCodeGrantRequest(as, client, spy, params, redirect, verifier, insecure), { requireIdToken: true });
  assert.ok(got.refresh_token);
  const used = { client_assertion: sent.get('client_assertion'), client_assertion_type: sent.get('client_assertion_type') };
  assert.ok(used.client_assertion);
  const replay = await token({ grant_type: 'refresh_token', refresh_token: got.refresh_token, ...used });
  assert.deepEqual([replay.status, replay.json.error], [401, 'invalid_client'], replay.text);
  const next = await oauth.processRefreshTokenResponse(as, client, await oauth.refreshTokenGrantRequest(as, client, oauth.PrivateKeyJwt({ key, kid: settings.backendKey.kid }), got.refresh_token, insecure));
  assert.ok(next.access_token);
});

// --- dpop ------------------------------------------------------------------

await flow('dpop', 'binds an app\'s session when it refreshes; a replayed proof, one for another URL or token, and one of another key are refused', async () => {
  const keys = await dpop.generateKeyPair('ES256');
  const handle = oauth.DPoP({ client_id: 'bound' }, keys);
  const mine = await partnerFlow({ client_id: 'bound' }, 'com.example.bound:/callback', 'openid app offline_access', { DPoP: handle });
  const got = await mine.process(await mine.request());
  assert.equal(jose.decodeJwt(got.access_token).cnf.jkt, await dpop.calculateThumbprint(keys.publicKey));
  const tokenURL = as.token_endpoint;
  const refresh = (refresh_token, proof) => token({ grant_type: 'refresh_token', client_id: 'bound', refresh_token }, { DPoP: proof });
  const proof = await dpop.generateProof(keys, tokenURL, 'POST');
  const first = await refresh(got.refresh_token, proof);
  assert.deepEqual([first.status, first.json.token_type], [200, 'DPoP'], first.text);
  const replay = await refresh(first.json.refresh_token, proof);
  assert.deepEqual([replay.status, replay.json.error], [400, 'invalid_dpop_proof'], replay.text);
  const elsewhere = await refresh(first.json.refresh_token, await dpop.generateProof(keys, `${settings.landline}/oauth/revoke`, 'POST'));
  assert.deepEqual([elsewhere.status, elsewhere.json.error], [400, 'invalid_dpop_proof'], elsewhere.text);
  const other = await refresh(first.json.refresh_token, await dpop.generateProof(await dpop.generateKeyPair('ES256'), tokenURL, 'POST'));
  assert.deepEqual([other.status, other.json.error], [400, 'invalid_grant'], other.text);

  const me = `${settings.landline}/v1/me`;
  const ask = (DPoP, access = first.json.access_token) => call('GET', '/v1/me', { headers: { Authorization: `DPoP ${access}`, DPoP } });
  const once = await dpop.generateProof(keys, me, 'GET', undefined, first.json.access_token);
  assert.equal((await ask(once)).status, 200);
  for (const bad of [once, await dpop.generateProof(keys, me, 'GET', undefined, got.access_token), await dpop.generateProof(keys, me, 'POST', undefined, first.json.access_token), await dpop.generateProof(keys, me, 'GET')]) {
    const res = await ask(bad);
    assert.equal(res.status, 401, res.text);
    assert.match(res.headers.get('www-authenticate'), /^DPoP .*error="invalid_dpop_proof"/);
  }
});

await flow('dpop', 'Ed25519 keys', async () => {
  const keys = await dpop.generateKeyPair('Ed25519');
  const handle = oauth.DPoP({ client_id: 'bound' }, keys);
  const mine = await partnerFlow({ client_id: 'bound' }, 'com.example.bound:/callback', 'openid app', { DPoP: handle });
  const res = await mine.request();
  assert.equal((await mine.process(res)).token_type, 'dpop');
});

// --- AppAuth ---------------------------------------------------------------

const requestor = new nodeAppauth.NodeRequestor();
const crypto = new nodeAppauth.NodeCrypto();
const handler = new appauth.BaseTokenRequestHandler(requestor);
const appRedirect = 'com.example.clients:/signed-in';
let service;

await flow('AppAuth-JS', 'discovery', async () => {
  service = await appauth.AuthorizationServiceConfiguration.fetchFromIssuer(settings.landline, requestor);
  assert.equal(service.tokenEndpoint, `${settings.landline}/oauth/token`);
  assert.equal(service.authorizationEndpoint, `${settings.landline}/oauth/authorize`);
  assert.equal(service.revocationEndpoint, `${settings.landline}/oauth/revoke`);
});

// Handler is AppAuth's, with our browser in place of the system's.
class Handler extends appauth.AuthorizationRequestHandler {
  constructor() { super(new appauth.BasicQueryStringUtils(), crypto); }

  async perform(request) {
    await request.setupCodeVerifier();
    const to = await signIn(this.buildRequestUrl(service, request), appRedirect, 'quentin');
    assert.equal(to.searchParams.get('state'), request.state);
    return to.searchParams.get('code');
  }
}

const appRequest = (extras, grant_type) => handler.performTokenRequest(service, new appauth.TokenRequest({ client_id: 'com.example.clients', redirect_uri: appRedirect, grant_type, ...extras }));
const appRefresh = (refresh_token) => appRequest({ refresh_token }, appauth.GRANT_TYPE_REFRESH_TOKEN);
let app;

async function appSignIn() {
  const request = new appauth.AuthorizationRequest({ client_id: 'com.example.clients', redirect_uri: appRedirect, scope: 'openid app', response_type: 'code' }, crypto);
  const code = await new Handler().perform(request);
  return appRequest({ code, extras: { code_verifier: request.internal.code_verifier } }, appauth.GRANT_TYPE_AUTHORIZATION_CODE);
}

await flow('AppAuth-JS', 'code with PKCE by a private-use scheme', async () => {
  app = await appSignIn();
  assert.ok(app.isValid() && app.refreshToken && app.idToken);
  assert.ok(app.expiresIn >= 900);
  await userOf(app.accessToken);
});

await flow('AppAuth-JS', 'refresh, again with a token whose answer was lost', async () => {
  const lost = await appRefresh(app.refreshToken);
  const again = await appRefresh(app.refreshToken);
  assert.equal(again.refreshToken, lost.refreshToken);
  app = await appRefresh(again.refreshToken);
});

// What AppAuth on phones takes for the end of the session (source of AppAuth-iOS
// and AppAuth-Android): a JSON answer with a member error.
const fatal = (res) => res.json?.error !== undefined;

await flow('AppAuth-JS, openid-client, oauth4webapi', 'a token endpoint whose storage does not answer ends no session: 503, Retry-After, no member error', async () => {
  const webTokens = (await webFlow()).tokens;
  const mine = await partnerFlow();
  const partnerTokens = await mine.process(await mine.request());
  const phone = await Phone.install();
  await control('/lock');
  let answers;
  try {
    answers = await Promise.all([
      token({ grant_type: 'refresh_token', refresh_token: phone.session.refresh_token }),
      rejects(appRefresh(app.refreshToken)),
      rejects(oidc.refreshTokenGrant(web, webTokens.refresh_token)),
      oauth.refreshTokenGrantRequest(as, partner, oauth.None(), partnerTokens.refresh_token, insecure),
      call('POST', '/oauth/revoke', { form: { token: phone.session.refresh_token } }),
    ]);
  } finally {
    await control('/unlock');
  }
  const [raw, appError, webError, partnerAnswer, revoke] = answers;
  for (const res of [raw, revoke]) {
    assert.equal(res.status, 503, res.text);
    assert.ok(Number(res.headers.get('retry-after')) > 0);
    assert.match(res.headers.get('content-type'), /^application\/problem\+json/);
    assert.equal(fatal(res), false, res.text);
  }
  assert.ok(appError instanceof appauth.AppAuthError);
  assert.equal(appError.extras, undefined); // no TokenError: nothing that OAuth calls final
  assert.ok(!(webError instanceof oidc.ResponseBodyError), String(webError));
  const partnerError = await rejects(oauth.processRefreshTokenResponse(as, partner, partnerAnswer));
  assert.ok(!(partnerError instanceof oauth.ResponseBodyError), String(partnerError));
  assert.equal(partnerAnswer.status, 503);

  // Each goes on with the token it had.
  app = await appRefresh(app.refreshToken);
  assert.ok((await oidc.refreshTokenGrant(web, webTokens.refresh_token)).access_token);
  assert.ok((await oauth.processRefreshTokenResponse(as, partner, await oauth.refreshTokenGrantRequest(as, partner, oauth.None(), partnerTokens.refresh_token, insecure))).access_token);
  const back = await token({ grant_type: 'refresh_token', refresh_token: phone.session.refresh_token });
  assert.equal(back.status, 200, back.text);
});

await flow('AppAuth-JS', 'too many refreshes: 429 and Retry-After without a member error; the same token is good afterwards', async () => {
  const last = (await appSignIn()).refreshToken;
  const all = await Promise.all(Array.from({ length: 60 }, () => token({ grant_type: 'refresh_token', client_id: 'com.example.clients', refresh_token: last })));
  assert.deepEqual([...new Set(all.map((r) => r.status))].sort(), [200, 429]);
  const res = all.find((r) => r.status === 429);
  assert.match(res.headers.get('content-type'), /^application\/problem\+json/);
  assert.equal(fatal(res), false, res.text);
  const err = await rejects(appRefresh(last));
  assert.ok(err instanceof appauth.AppAuthError && err.extras === undefined);
  const wait = Number(res.headers.get('retry-after'));
  assert.ok(wait > 0 && wait <= 60, `Retry-After ${wait}`);
  await pause(wait);
  await appRefresh(last);
});

await flow('AppAuth-JS', 'revocation, after which the refresh is refused for good', async () => {
  assert.equal(await handler.performRevokeTokenRequest(service, new appauth.RevokeTokenRequest({ token: app.refreshToken, client_id: 'com.example.clients' })), true);
  await rejects(appRefresh(app.refreshToken));
  const res = await token({ grant_type: 'refresh_token', client_id: 'com.example.clients', refresh_token: app.refreshToken });
  assert.deepEqual([res.status, res.json.error], [400, 'invalid_grant'], res.text);
  assert.ok(fatal(res));
});

// --- what clients must not get away with -----------------------------------

const challenge = await oauth.calculatePKCECodeChallenge(oauth.generateRandomCodeVerifier());

const authorizeURL = (change) => {
  const params = new URLSearchParams({ client_id: 'partner', redirect_uri: loopback, response_type: 'code', scope: 'openid', state: 's', code_challenge: challenge, code_challenge_method: 'S256' });
  for (const [name, value] of Object.entries(change)) {
    if (value === undefined) params.delete(name);
    else params.set(name, value);
  }
  return `${as.authorization_endpoint}?${params}`;
};

await flow('fetch', 'redirect URIs that are nearly the client\'s are answered with a page, never with a redirect', async () => {
  for (const uri of [
    'https://evil.example/callback', 'http://127.0.0.1.evil.example/callback', 'http://127.0.0.1:80@evil.example/callback', 'http://127.0.0.1/callback/../evil',
    'http://127.0.0.1/callback/', 'http://127.0.0.1/callback?next=evil', 'http://127.0.0.1/callback#x', 'http://localhost/callback', 'https://127.0.0.1/callback',
    'http://127.0.0.1\\@evil.example/callback', 'http://127.0.0.1:99999999/callback', 'com.partner.app:/callback2', 'com.partner.app://callback', 'COM.partner.app:/callback',
    'javascript:alert(1)', '//evil.example/callback', ' http://127.0.0.1/callback', '',
  ]) {
    const res = await fetch(authorizeURL({ redirect_uri: uri }), { redirect: 'manual' });
    assert.deepEqual([res.status, res.headers.get('location')], [400, null], uri);
  }
  const twice = await fetch(`${authorizeURL({})}&redirect_uri=https://evil.example/`, { redirect: 'manual' });
  assert.deepEqual([twice.status, twice.headers.get('location')], [400, null]);
});

await flow('fetch', 'requests without PKCE, with plain PKCE, for tokens in the URL or for more scope go back with an error', async () => {
  for (const [change, error] of [
    [{ code_challenge: undefined, code_challenge_method: undefined }, 'invalid_request'], [{ code_challenge_method: 'plain' }, 'invalid_request'], [{ code_challenge_method: undefined }, 'invalid_request'],
    [{ code_challenge: 'short' }, 'invalid_request'], [{ response_type: 'token' }, 'unsupported_response_type'], [{ response_type: 'code id_token' }, 'unsupported_response_type'],
    [{ scope: 'openid app' }, 'invalid_scope'], [{ prompt: 'none' }, 'login_required'], [{ request: 'e30.e30.' }, 'request_not_supported'],
  ]) {
    const res = await fetch(authorizeURL(change), { redirect: 'manual' });
    const to = new URL(res.headers.get('location') ?? 'about:blank');
    assert.ok(to.href.startsWith(loopback), `${JSON.stringify(change)}: ${res.status} ${to}`);
    assert.deepEqual([to.searchParams.get('error'), to.searchParams.get('state'), to.searchParams.get('iss'), to.searchParams.get('code')], [error, 's', settings.landline, null]);
  }
});

await flow('fetch', 'a code without its verifier gives nothing', async () => {
  const mine = await partnerFlow();
  const bare = await token({ grant_type: 'authorization_code', client_id: 'partner', redirect_uri: mine.redirect, code: mine.params.get('code') });
  assert.deepEqual([bare.status, bare.json.error], [400, 'invalid_request'], bare.text);
});

await flow('fetch', 'the way back from a provider is good in the browser that went there, and once', async () => {
  const callback = `${settings.landline}/oauth/callback?`;
  const begin = async (browser) => browser.atProvider(await browser.link(await browser.go(authorizeURL({}), loopback), callback, 'acme'), callback, 'rita');
  const attacker = new Browser();
  const theirs = await begin(attacker);
  assert.ok(theirs.to.searchParams.get('code'));
  const victim = new Browser();
  await victim.go(authorizeURL({}), loopback);
  const forced = await victim.go(theirs.to, loopback);
  assert.deepEqual([forced.to, forced.status], [undefined, 400]);
  assert.doesNotMatch(forced.page, /rita/);
  const late = await attacker.go(theirs.to, loopback); // the state is used up
  assert.deepEqual([late.to, late.status], [undefined, 400]);

  const honest = new Browser();
  const mine = await begin(honest);
  const page = await honest.go(mine.to, loopback);
  assert.equal(page.status, 200);
  assert.match(page.page, /value="allow"/);
});

await flow('fetch', 'ID and refresh tokens are no access tokens', async () => {
  const { tokens } = await webFlow();
  for (const bad of [tokens.id_token, tokens.refresh_token, `${tokens.access_token}x`, tokens.access_token.replace(/^[^.]+/, Buffer.from('{"alg":"none","typ":"at+jwt"}').toString('base64url'))]) {
    const res = await call('GET', '/v1/me', { token: bad });
    assert.equal(res.status, 401, res.text);
    assert.match(res.headers.get('www-authenticate'), /^Bearer .*error="invalid_token"/);
  }
});

providers.end();

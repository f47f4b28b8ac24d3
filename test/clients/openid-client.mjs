// openid-client (https://github.com/panva/openid-client) against Landline.
import * as client from 'openid-client'
import { Browser } from './browser.mjs'
import { base, done, equal, flow, secret, signIn } from './setup.mjs'

const redirect = 'https://client.example/cb'
const insecure = { execute: [client.allowInsecureRequests] }

async function run(config, scope, address, browser, more = {}) {
  const verifier = client.randomPKCECodeVerifier()
  const state = client.randomState()
  const nonce = client.randomNonce()
  const url = client.buildAuthorizationUrl(config, {
    redirect_uri: redirect, scope, state, nonce, code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256', ...more,
  })
  const back = await signIn(url, address, browser)
  return client.authorizationCodeGrant(config, back, { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, idTokenExpected: true, maxAge: more.max_age && Number(more.max_age) })
}

await flow('public client: code, userinfo, refresh, max_age, sign-out', async () => {
  const config = await client.discovery(new URL(base), 'com.example.spa', undefined, client.None(), insecure)
  const browser = new Browser(base)
  const got = await run(config, 'openid email app', 'cleo@example.com', browser)
  const info = await client.fetchUserInfo(config, got.access_token, got.claims().sub)
  equal(info.email, 'cleo@example.com', 'email')
  const again = await client.refreshTokenGrant(config, got.refresh_token)
  equal(typeof again.expires_in, 'number', 'type of expires_in')
  // Signed in already: no page, and the same person.
  const silent = await run(config, 'openid', 'cleo@example.com', browser, { prompt: 'none' })
  equal(silent.claims().sub, got.claims().sub, 'sub')
  const aged = await run(config, 'openid', 'cleo@example.com', browser, { max_age: '3600' })
  equal(typeof aged.claims().auth_time, 'number', 'type of auth_time')
  const out = await browser.open(client.buildEndSessionUrl(config, { id_token_hint: got.id_token, post_logout_redirect_uri: 'https://client.example/bye', state: 's' }))
  equal(out.away?.href, 'https://client.example/bye?state=s', 'the way back')
})

await flow('confidential client: consent, introspection, token exchange', async () => {
  const config = await client.discovery(new URL(base), 'backend', undefined, client.ClientSecretBasic(secret), insecure)
  const got = await run(config, 'openid app', 'cleo@example.com', new Browser(base))
  equal((await client.tokenIntrospection(config, got.access_token)).active, true, 'active')
  const less = await client.genericGrantRequest(config, 'urn:ietf:params:oauth:grant-type:token-exchange', {
    subject_token: got.access_token, subject_token_type: 'urn:ietf:params:oauth:token-type:access_token', scope: 'openid',
  })
  equal(less.scope, 'openid', 'scope of the exchanged token')
  equal(less.issued_token_type, 'urn:ietf:params:oauth:token-type:access_token', 'issued_token_type')
})

done()

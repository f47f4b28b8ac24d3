// oauth4webapi (https://github.com/panva/oauth4webapi) against Landline.
import * as oauth from 'oauth4webapi'
import { base, done, equal, flow, secret, signIn } from './setup.mjs'

const http = { [oauth.allowInsecureRequests]: true }
const issuer = new URL(base)
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, http))

const spa = { client_id: 'com.example.spa' }
const partner = { client_id: 'partner' }
const redirect = 'https://client.example/cb'

async function code(client, scope, address, more = {}) {
  const verifier = oauth.generateRandomCodeVerifier()
  const state = oauth.generateRandomState()
  const nonce = oauth.generateRandomNonce()
  const url = new URL(as.authorization_endpoint)
  url.search = new URLSearchParams({
    client_id: client.client_id, redirect_uri: redirect, response_type: 'code', scope, state, nonce,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256', ...more,
  })
  const back = await signIn(url, address)
  return { params: oauth.validateAuthResponse(as, client, back, state), verifier, nonce }
}

async function tokens(client, auth, c, options = {}) {
  const res = await oauth.authorizationCodeGrantRequest(as, client, auth, c.params, redirect, c.verifier, { ...http, ...options })
  return oauth.processAuthorizationCodeResponse(as, client, res, { expectedNonce: c.nonce, requireIdToken: true })
}

await flow('public client: code, ID token, userinfo, refresh, revocation', async () => {
  const got = await tokens(spa, oauth.None(), await code(spa, 'openid email app', 'anna@example.com'))
  equal(got.token_type, 'bearer', 'token_type')
  const { sub } = oauth.getValidatedIdTokenClaims(got)
  const info = await oauth.processUserInfoResponse(as, spa, sub, await oauth.userInfoRequest(as, spa, got.access_token, http))
  equal(info.email, 'anna@example.com', 'email')
  const me = await oauth.protectedResourceRequest(got.access_token, 'GET', new URL('/v1/me', base), undefined, undefined, http)
  equal(me.status, 200, 'status of /v1/me')
  const again = await oauth.processRefreshTokenResponse(as, spa, await oauth.refreshTokenGrantRequest(as, spa, oauth.None(), got.refresh_token, http))
  if (again.refresh_token === got.refresh_token) throw new Error('the refresh token did not rotate')
  await oauth.processRevocationResponse(await oauth.revocationRequest(as, spa, oauth.None(), again.refresh_token, http))
  try {
    await oauth.processRefreshTokenResponse(as, spa, await oauth.refreshTokenGrantRequest(as, spa, oauth.None(), again.refresh_token, http))
  } catch (err) {
    equal(err.error, 'invalid_grant', 'error after the revocation')
    return
  }
  throw new Error('a revoked token was refreshed')
})

for (const [name, auth] of Object.entries({ client_secret_basic: oauth.ClientSecretBasic(secret), client_secret_post: oauth.ClientSecretPost(secret) })) {
  await flow(`confidential client: ${name}, consent, introspection`, async () => {
    const got = await tokens(partner, auth, await code(partner, 'openid offline_access', 'ben@example.com'))
    const seen = await oauth.processIntrospectionResponse(as, partner, await oauth.introspectionRequest(as, partner, auth, got.access_token, http))
    equal(seen.active, true, 'active')
    equal(seen.client_id, 'partner', 'client_id')
    const api = await fetch(new URL('/v1/me', base), { headers: { authorization: `Bearer ${got.access_token}` } })
    equal(api.status, 403, 'status of /v1/me')
  })
}

await flow('a wrong client secret is invalid_client with a challenge', async () => {
  try {
    await tokens(partner, oauth.ClientSecretBasic('wrong'), await code(partner, 'openid', 'ben@example.com'))
  } catch (err) {
    if (!(err instanceof oauth.WWWAuthenticateChallengeError)) throw err
    equal(err.cause[0].scheme, 'basic', 'scheme of the challenge')
    return
  }
  throw new Error('it was accepted')
})

await flow('pushed authorization request', async () => {
  const verifier = oauth.generateRandomCodeVerifier()
  const pushed = await oauth.processPushedAuthorizationResponse(as, partner, await oauth.pushedAuthorizationRequest(as, partner, oauth.ClientSecretBasic(secret), {
    redirect_uri: redirect, response_type: 'code', scope: 'openid', code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  }, http))
  const url = new URL(as.authorization_endpoint)
  url.search = new URLSearchParams({ client_id: 'partner', request_uri: pushed.request_uri })
  const params = oauth.validateAuthResponse(as, partner, await signIn(url, 'ben@example.com'), oauth.expectNoState)
  await tokens(partner, oauth.ClientSecretBasic(secret), { params, verifier })
})

await flow('DPoP: bound tokens, one refresh token for ever, the resource', async () => {
  const keys = await oauth.generateKeyPair('ES256')
  const dpop = oauth.DPoP(spa, keys)
  const got = await tokens(spa, oauth.None(), await code(spa, 'openid app', 'anna@example.com'), { DPoP: dpop })
  equal(got.token_type, 'dpop', 'token_type')
  const again = await oauth.processRefreshTokenResponse(as, spa, await oauth.refreshTokenGrantRequest(as, spa, oauth.None(), got.refresh_token, { ...http, DPoP: dpop }))
  equal(again.refresh_token, got.refresh_token, 'refresh_token')
  const me = await oauth.protectedResourceRequest(again.access_token, 'GET', new URL('/v1/me', base), undefined, undefined, { ...http, DPoP: dpop })
  equal(me.status, 200, 'status of /v1/me')
  const stolen = await fetch(new URL('/v1/me', base), { headers: { authorization: `Bearer ${again.access_token}` } })
  equal(stolen.status, 401, 'status of a bound token without its key')
})

await flow('an error comes back to the client with state and iss', async () => {
  try {
    await code(spa, 'openid', 'anna@example.com', { prompt: 'none' })
  } catch (err) {
    if (!(err instanceof oauth.AuthorizationResponseError)) throw err
    equal(err.error, 'login_required', 'error')
    return
  }
  throw new Error('prompt=none signed somebody in')
})

done()

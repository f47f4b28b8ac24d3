// OpenID providers that play Google, Apple and an enterprise: each an
// oidc-provider on a port of its own, in one process. The parent process sends
// {id, issuer, do, ...} and gets {id, result} or {id, error}.
import { createServer } from 'node:http';
import { createPublicKey } from 'node:crypto';
import * as jose from 'jose';
import { Provider } from 'oidc-provider';

// The clock of all providers, which can be wrong.
const realNow = Date.now;
let skew = 0;
Date.now = () => realNow() + skew;

const issuers = new Map();
let keys = 0;

async function signingKey(alg) {
  const { privateKey } = await jose.generateKeyPair(alg, { extractable: true });
  return { ...await jose.exportJWK(privateKey), alg, use: 'sig', kid: `key-${++keys}` };
}

// people are whom the providers know: the address follows from the name.
function findAccount(_, id) {
  return {
    accountId: id,
    claims: () => ({ sub: id, name: id, email: `${id}@people.example`, email_verified: !id.startsWith('unverified') }),
  };
}

function configuration(spec, jwks) {
  return {
    jwks: { keys: jwks },
    clients: spec.clients,
    findAccount,
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
    conformIdTokenClaims: false, // ID tokens have the address, as Google's and Apple's do
    features: { revocation: { enabled: true }, devInteractions: { enabled: true } },
    issueRefreshToken: async () => true,
    responseTypes: ['code', 'code id_token'],
    pkce: { required: () => false },
    cookies: { keys: ['not a secret: test only'] },
    ttl: { AccessToken: 3600, AuthorizationCode: 600, IdToken: 3600, RefreshToken: 86400, Grant: 86400, Interaction: 3600, Session: 86400 },
  };
}

// Apple's client secret is a JWT, made for each call and signed with the team's key.
function expectAppleSecret(provider, apple, issuer) {
  const key = createPublicKey(apple.publicKey);
  provider.Client.prototype.compareClientSecret = async function (secret) {
    const { payload, protectedHeader } = await jose.jwtVerify(secret, key, {
      algorithms: ['ES256'], issuer: apple.teamId, subject: this.clientId, audience: issuer, maxTokenAge: '10m',
    });
    return protectedHeader.kid === apple.keyId && payload.exp - payload.iat <= 15777000;
  };
}

class Issuer {
  constructor(spec) {
    this.spec = spec;
    this.seen = []; // what the provider was asked, for revocations
    this.destroyed = 0;
  }

  async renew(jwks) {
    this.jwks = jwks;
    const provider = new Provider(this.spec.issuer, configuration(this.spec, jwks));
    if (this.spec.apple) expectAppleSecret(provider, this.spec.apple, this.spec.issuer);
    provider.use(async (ctx, next) => {
      if (ctx.path === '/.well-known/risc-configuration') { // Google's address of the keys of its notices
        ctx.body = { issuer: this.spec.issuer, jwks_uri: `${this.spec.issuer}/jwks` };
        return;
      }
      await next();
      this.seen.push({ method: ctx.method, path: ctx.path, status: ctx.status });
    });
    provider.on('refresh_token.destroyed', () => { this.destroyed++; });
    provider.on('server_error', (_, err) => { console.error('provider:', err); });
    this.handle = provider.callback();
  }

  up() {
    return new Promise((resolve, reject) => {
      this.server = createServer((req, res) => this.handle(req, res));
      this.server.once('error', reject);
      this.server.listen(Number(new URL(this.spec.issuer).port), '127.0.0.1', resolve);
    });
  }

  down() {
    return new Promise((resolve) => {
      this.server.close(resolve);
      this.server.closeAllConnections();
    });
  }
}

const actions = {
  async start({ spec }) {
    const i = new Issuer(spec);
    await i.renew([await signingKey('RS256')]);
    await i.up();
    issuers.set(spec.name, i);
  },
  async skew({ seconds }) { skew = seconds * 1000; },
  async down({ issuer }) { await issuers.get(issuer).down(); },
  async up({ issuer }) { await issuers.get(issuer).up(); },
  // rotate replaces the key at once, without warning.
  async rotate({ issuer }) { await issuers.get(issuer).renew([await signingKey('RS256')]); },
  async calls({ issuer, path }) { return issuers.get(issuer).seen.filter((c) => c.path === path); },
  async destroyed({ issuer }) { return issuers.get(issuer).destroyed; },
  // sign makes a token with the provider's key: a notice, or a forged ID token.
  async sign({ issuer, claims, header = {}, key }) {
    const jwk = key ?? issuers.get(issuer).jwks[0];
    const head = { alg: 'RS256', kid: jwk.kid, ...header };
    return new jose.CompactSign(new TextEncoder().encode(JSON.stringify(claims)))
      .setProtectedHeader(head).sign(await jose.importJWK(jwk, 'RS256'));
  },
};

process.on('message', async (m) => {
  try {
    process.send({ id: m.id, result: (await actions[m.do](m)) ?? null });
  } catch (err) {
    process.send({ id: m.id, error: String(err.stack ?? err) });
  }
});
process.on('disconnect', () => process.exit(0));

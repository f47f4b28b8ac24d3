// What the flows share: how they are reported, a phone that has Landline in it, a
// browser without scripts, and the providers.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

// Standard output is for outcomes; libraries that log write elsewhere.
console.log = console.error;

// settings come from the Go test that starts this.
export const settings = JSON.parse(process.env.CLIENTS_TEST);

// flow runs one flow and prints its outcome as a line of JSON.
export async function flow(client, name, run) {
  const line = { client, flow: name };
  try {
    await run();
  } catch (err) {
    line.error = [err.stack ?? String(err), err.cause && `cause: ${err.cause.stack ?? JSON.stringify(err.cause)}`].filter(Boolean).join('\n');
  }
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

// control asks the Go test for something that only it can do.
export async function control(path) {
  const res = await fetch(`${settings.control}${path}`, { method: 'POST' });
  assert.equal(res.status, 204, await res.text());
}

// --- HTTP ------------------------------------------------------------------

export async function call(method, path, { token, body, form, headers = {} } = {}) {
  const init = { method, headers: { ...headers }, redirect: 'manual' };
  if (token) init.headers.Authorization = `Bearer ${token}`;
  if (body) {
    init.headers['Content-Type'] = 'application/json';
    init.body = JSON.stringify(body);
  }
  if (form) init.body = new URLSearchParams(form);
  const res = await fetch(new URL(path, settings.landline), init);
  const text = await res.text();
  const json = /json/.test(res.headers.get('content-type') ?? '') ? JSON.parse(text) : undefined;
  return { status: res.status, headers: res.headers, text, json };
}

// expect is call for an answer of a known status; it returns the body.
export async function expect(status, method, path, options) {
  const res = await call(method, path, options);
  assert.equal(res.status, status, `${method} ${path}: ${res.status} ${res.text}`);
  return res.json;
}

// refused is expect for a problem of a known code; it returns the whole answer.
export async function refused(status, code, method, path, options) {
  const res = await call(method, path, options);
  assert.equal(res.status, status, `${method} ${path}: ${res.status} ${res.text}`);
  assert.equal(res.json?.code, code, res.text);
  assert.match(res.headers.get('content-type'), /^application\/problem\+json/);
  return res;
}

export const pause = (seconds) => new Promise((resolve) => { setTimeout(resolve, seconds * 1000); });

// --- a phone ---------------------------------------------------------------

// Phone is an installation of the app: it keeps the tokens of its last answer.
export class Phone {
  static async install() {
    const phone = new Phone();
    const got = await expect(201, 'POST', '/v1/installations', { body: {}, headers: { 'Idempotency-Key': crypto.randomUUID() } });
    phone.installation = got.installation;
    phone.keep(got);
    assert.equal(phone.user.kind, 'anonymous');
    return phone;
  }

  keep({ user, session }) {
    this.user = user;
    this.session = session;
  }

  get token() { return this.session.access_token; }

  signIn(credential) { return call('POST', '/v1/auth/sign-in', { token: this.token, body: credential }); }

  async signedIn(credential) {
    const res = await this.signIn(credential);
    assert.equal(res.status, 200, `sign-in: ${res.status} ${res.text}`);
    this.keep(res.json);
    return res.json;
  }

  refusedSignIn(status, code, credential) { return refused(status, code, 'POST', '/v1/auth/sign-in', { token: this.token, body: credential }); }

  me() { return expect(200, 'GET', '/v1/me', { token: this.token }); }
}

// --- a browser -------------------------------------------------------------

const unescape = (s) => s.replace(/&(amp|lt|gt|quot|#34|#39|#43);/g, (_, n) => ({ amp: '&', lt: '<', gt: '>', quot: '"', '#34': '"', '#39': "'", '#43': '+' }[n]));
const attributes = (tag) => Object.fromEntries([...tag.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, k, v]) => [k, unescape(v)]));

// Browser keeps cookies by origin and path, follows redirects, and reads forms
// and links. It runs no scripts.
export class Browser {
  constructor() { this.cookies = new Map(); }

  header(url) {
    return [...this.cookies.values()].filter((c) => c.origin === url.origin && url.pathname.startsWith(c.path)).map((c) => `${c.name}=${c.value}`).join('; ');
  }

  store(url, res) {
    for (const line of res.headers.getSetCookie()) {
      const [pair, ...rest] = line.split(/;\s*/);
      const at = pair.indexOf('=');
      const options = Object.fromEntries(rest.map((r) => { const i = r.indexOf('='); return i < 0 ? [r.toLowerCase(), ''] : [r.slice(0, i).toLowerCase(), r.slice(i + 1)]; }));
      const c = { origin: url.origin, path: options.path ?? '/', name: pair.slice(0, at), value: pair.slice(at + 1) };
      const key = `${c.origin} ${c.path} ${c.name}`;
      const gone = options['max-age'] === '0' || (options.expires && Date.parse(options.expires) < Date.now());
      if (gone || c.value === '') this.cookies.delete(key);
      else this.cookies.set(key, c);
    }
  }

  // go returns {page, url, status}, or {to: URL} when it is sent to one of stops.
  async go(address, stop, form) {
    let url = new URL(address);
    for (let n = 0; n < 20; n++) {
      if (stop && url.href.startsWith(stop)) return { to: url };
      const res = await fetch(url, {
        method: form ? 'POST' : 'GET', redirect: 'manual', body: form && new URLSearchParams(form),
        headers: { Cookie: this.header(url), ...(form ? { Origin: url.origin } : {}) },
      });
      this.store(url, res);
      const page = await res.text();
      const location = res.headers.get('location');
      if (!location) return { page, url, status: res.status, headers: res.headers };
      url = new URL(location, url);
      form = undefined;
    }
    throw new Error(`too many redirects, the last one to ${url}`);
  }

  // press sends the form of a page that has a button (or input) name=value.
  press(at, stop, name, value, fields = {}) {
    for (const [form] of at.page.matchAll(/<form[\s\S]*?<\/form>/g)) {
      const inputs = [...form.matchAll(/<(input|button)\b[^>]*>/g)].map(([tag]) => attributes(tag));
      const button = inputs.find((i) => i.name === name && (value === undefined || i.value === value));
      if (!button) continue;
      const sent = Object.fromEntries(inputs.filter((i) => i.type === 'hidden').map((i) => [i.name, i.value]));
      sent[name] = button.value ?? '';
      return this.go(new URL(attributes(form.match(/<form[^>]*>/)[0]).action, at.url), stop, { ...sent, ...fields });
    }
    throw new Error(`no button ${name}=${value} on ${at.url} (${at.status}):\n${at.page}`);
  }

  link(at, stop, label) {
    const found = [...at.page.matchAll(/<a\b[^>]*>([\s\S]*?)<\/a>/g)].find(([, text]) => text.trim() === label || text.trim().endsWith(` ${label}`)); // "Sign in with acme"
    if (!found) throw new Error(`no link ${label} on ${at.url} (${at.status}):\n${at.page}`);
    return this.go(new URL(attributes(found[0]).href, at.url), stop);
  }

  // atProvider signs in on oidc-provider's own pages, and says yes to everything.
  async atProvider(at, stop, person) {
    while (!at.to && /\/interaction\//.test(at.url.pathname)) {
      const prompt = at.page.match(/name="prompt" value="(\w+)"/)?.[1];
      assert.ok(prompt, `no prompt on ${at.url} (${at.status}):\n${at.page}`);
      const action = at.page.match(/action="([^"]*)"/)[1];
      at = await this.go(new URL(unescape(action), at.url), stop, prompt === 'login' ? { prompt, login: person, password: 'any' } : { prompt });
    }
    return at;
  }
}

// --- the providers ---------------------------------------------------------

// Providers is the process of idp.mjs.
export class Providers {
  constructor() {
    this.waiting = new Map();
    this.next = 0;
    this.child = fork(fileURLToPath(new URL('idp.mjs', import.meta.url)), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'], execArgv: ['--no-warnings'], env: { ...process.env, NODE_ENV: 'test' } });
    this.child.on('message', ({ id, result, error }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (error) reject(new Error(error));
      else resolve(result);
    });
    this.child.on('exit', (code) => {
      for (const { reject } of this.waiting.values()) reject(new Error(`the providers ended with ${code}`));
    });
  }

  do(what, more = {}) {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.child.send({ id, do: what, ...more });
    });
  }

  end() { this.child.disconnect(); }
}

export const providerClients = {
  google: { id: 'app.google.example', secret: settings.secret, redirect: `${settings.landline}/oauth/callback`, auth: 'client_secret_post' },
  apple: { id: 'com.example.clients', secret: 'is a JWT', redirect: `${settings.landline}/oauth/callback`, auth: 'client_secret_post' },
  acme: { id: 'clients-app', secret: settings.secret, redirect: 'com.example.clients:/callback', auth: 'client_secret_basic' },
};

// startProviders starts those of names.
export async function startProviders(...names) {
  const providers = new Providers();
  for (const name of names) {
    const c = providerClients[name];
    const spec = {
      name, issuer: settings.issuers[name],
      clients: [{
        client_id: c.id, client_secret: c.secret, redirect_uris: [c.redirect, `${settings.landline}/oauth/callback`].filter((u, i, all) => all.indexOf(u) === i),
        application_type: 'native', 
        grant_types: ['authorization_code', 'refresh_token', 'implicit'], response_types: ['code', 'code id_token'], token_endpoint_auth_method: c.auth,
      }],
    };
    if (name === 'apple') spec.apple = settings.apple;
    await providers.do('start', { spec });
  }
  return providers;
}

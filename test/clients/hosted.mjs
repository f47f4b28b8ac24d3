// People use the hosted pages in Chromium, with an authenticator that the browser
// plays, and axe-core looks at every page. With HOSTED_PICTURES the pages are kept
// as pictures.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { Phone, call, expect, flow, pause, refused, settings } from './lib.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const base = settings.landline;
const client = createServer((_, res) => res.end('signed in')).listen(0, '127.0.0.1'); // where clients are sent back to
await once(client, 'listening');
const redirect = `http://127.0.0.1:${client.address().port}/callback`;
const enough = 120_000; // ms: nothing takes that long unless it is broken, however busy the machine is
const browser = await chromium.launch({ executablePath: settings.chromium, chromiumSandbox: false, args: ['--disable-dev-shm-usage'], timeout: enough }); // containers have little of both
let people = 0;
const somebody = () => `person-${++people}@example.com`;

// --- a browser -------------------------------------------------------------

// open makes a browser without a past. Whatever the policy of a page stops, or a
// script throws, fails the flow that ends with calm().
async function open(options = {}) {
  const context = await browser.newContext({ locale: 'en-GB', ...options });
  context.setDefaultTimeout(enough);
  const page = await context.newPage();
  const faults = [];
  page.on('console', (m) => { if (m.type() === 'error' && !/status of 4\d\d/.test(m.text())) faults.push(m.text()); });
  page.on('pageerror', (err) => faults.push(String(err)));
  const calm = async () => {
    await context.close();
    assert.deepEqual(faults, []);
  };
  return { context, page, calm };
}

// visit is a flow that leaves no page open, however it ends.
const visit = (client, name, run) => flow(client, name, async () => {
  try {
    await run();
  } finally {
    await Promise.all(browser.contexts().map((c) => c.close()));
  }
});

// leads does what leads to another page, and waits until that one is there whole.
const leads = (page, act) => Promise.all([page.waitForEvent('load'), act()]);

// until waits for something that the server does in its own time.
async function until(what, done) {
  for (const deadline = Date.now() + enough; ;) {
    const got = await done();
    if (got) return got;
    if (Date.now() > deadline) throw new Error(`there is no ${what}`);
    await pause(0.05);
  }
}

// authenticator gives the page one that has the person's finger on it.
async function authenticator(context, page) {
  const cdp = await context.newCDPSession(page);
  await cdp.send('WebAuthn.enable');
  const { authenticatorId } = await cdp.send('WebAuthn.addVirtualAuthenticator', {
    options: { protocol: 'ctap2', ctap2Version: 'ctap2_1', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true },
  });
  return {
    touch: (enabled) => cdp.send('WebAuthn.setAutomaticPresenceSimulation', { authenticatorId, enabled }),
    verified: (isUserVerified) => cdp.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified }),
    credentials: async () => (await cdp.send('WebAuthn.getCredentials', { authenticatorId })).credentials,
  };
}

// withPasskey makes an account whose only way in is a passkey of the page's authenticator.
async function withPasskey(page, name) {
  const phone = await Phone.install();
  const { options } = await expect(200, 'POST', '/v1/auth/passkey-options', { token: phone.token, body: { ceremony: 'registration', name } });
  await page.goto(`${base}/account/delete`);
  const passkey = await page.evaluate(async (o) => (await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(o) })).toJSON(), options);
  await phone.signedIn({ provider: 'passkey', passkey });
  await expect(200, 'PATCH', '/v1/me', { token: phone.token, body: { name } });
  return phone;
}

const read = new Set();

// messageTo returns the code of a message that nobody has read yet, if there is one.
function messageTo(address) {
  let files = [];
  try {
    files = readdirSync(settings.mail).filter((f) => f.endsWith('.eml') && !read.has(f));
  } catch (err) {
    if (err.code !== 'ENOENT') throw err;
  }
  for (const file of files) {
    const message = readFileSync(join(settings.mail, file), 'utf8');
    const code = message.match(/^Subject: .*?(\d{6,8})/m);
    if (!message.includes(address) || !code) continue;
    read.add(file);
    return code[1];
  }
  return undefined;
}

// codeFor waits for the message to an address and returns its code.
const codeFor = (address) => until(`message to ${address}`, () => messageTo(address));

const step = (page, value) => leads(page, () => page.locator(`button[name="step"][value="${value}"]`).click());

// byCode signs in on the page that is open.
async function byCode(page, address) {
  await page.locator('#email').fill(address);
  await step(page, 'send');
  await page.locator('#code').fill(await codeFor(address));
  await step(page, 'code');
}

const verifier = randomBytes(32).toString('base64url');

function authorize(client, more = {}) {
  return `${base}/oauth/authorize?${new URLSearchParams({
    client_id: client, redirect_uri: redirect, response_type: 'code', scope: client === 'partner' ? 'openid email' : 'openid app', state: 's',
    code_challenge: createHash('sha256').update(verifier).digest('base64url'), code_challenge_method: 'S256', ...more,
  })}`;
}

// sentBack waits until what is done leads to the client, and returns its tokens.
async function sentBack(page, client, act) {
  await Promise.all([page.waitForURL((u) => u.href.startsWith(redirect)), act()]);
  const params = new URL(page.url()).searchParams;
  assert.equal(params.get('error'), null, params.get('error_description'));
  const res = await call('POST', '/oauth/token', { form: { grant_type: 'authorization_code', client_id: client, redirect_uri: redirect, code: params.get('code'), code_verifier: verifier } });
  assert.equal(res.status, 200, res.text);
  return res.json;
}

const password = 'correct horse, battery staple';

// account makes an account in the app, with a password, and returns the phone.
async function account(email) {
  const phone = await Phone.install();
  await expect(202, 'POST', '/v1/auth/email-code', { token: phone.token, body: { email } });
  phone.keep(await expect(200, 'POST', '/v1/auth/sign-up', { token: phone.token, body: { email, code: await codeFor(email), password } }));
  return phone;
}

// copyReady loads the page of a copy again until it can be downloaded by the link of a name.
async function copyReady(page, name) {
  const link = page.getByRole('link', { name });
  await until('copy of the data', async () => await link.count() > 0 || (await page.reload(), false));
  return link;
}

// byPassword is byCode for who has a password.
async function byPassword(page, address) {
  await page.locator('#login').fill(address);
  await page.locator('#password').fill(password);
  await step(page, 'password');
}

// --- passkeys --------------------------------------------------------------

await visit('Chromium', 'signs in with a passkey by the button of the sign-in page', async () => {
  const { context, page, calm } = await open();
  const key = await authenticator(context, page);
  const phone = await withPasskey(page, 'Grace');
  await key.touch(false); // or the suggestions would be taken at once
  await page.goto(authorize('com.example.clients'));
  const button = page.locator('#passkey button');
  await button.waitFor();
  await key.verified(false);
  await key.touch(true);
  await button.click(); // a finger that is not the person's
  await page.locator('#passkey [role=status]', { hasText: 'No passkey was used' }).waitFor();
  await key.verified(true);
  const tokens = await sentBack(page, 'com.example.clients', () => button.click());
  assert.equal((await expect(200, 'GET', '/v1/me', { token: tokens.access_token })).id, phone.user.id);
  await calm();
});

await visit('Chromium', 'signs in with a passkey from the suggestions of the address field', async () => {
  const { context, page, calm } = await open();
  const key = await authenticator(context, page);
  const phone = await withPasskey(page, 'Edsger');
  assert.equal(await page.evaluate(() => PublicKeyCredential.isConditionalMediationAvailable()), true);
  assert.equal((await key.credentials()).length, 1);
  const tokens = await sentBack(page, 'com.example.clients', () => page.goto(authorize('com.example.clients')).catch(() => {})); // interrupted: picked as soon as it is suggested
  assert.equal((await expect(200, 'GET', '/v1/me', { token: tokens.access_token })).id, phone.user.id);
  await calm();
});

await visit('Chromium', 'steps up: a feature that wants a passkey names acr_values, and lets the stronger token in', async () => {
  const { context, page, calm } = await open();
  const key = await authenticator(context, page);
  await withPasskey(page, 'Barbara');
  await key.touch(false);
  await page.goto(authorize('com.example.clients'));
  const weak = await sentBack(page, 'com.example.clients', () => byCode(page, somebody()));
  const no = await refused(401, 'insufficient_user_authentication', 'GET', '/v1/transfers', { token: weak.access_token });
  const challenge = no.headers.get('www-authenticate');
  const [, acr] = challenge.match(/error="insufficient_user_authentication".*acr_values="([^"]*)"/);
  const [, age] = challenge.match(/max_age=(\d+)/);
  assert.deepEqual([acr, age, no.json.acr_values], ['phr', '300', 'phr']);
  await page.goto(authorize('com.example.clients', { acr_values: acr, max_age: age }));
  await page.getByText('This step needs a passkey').waitFor();
  assert.equal(await page.locator('#email, #password').count(), 0);
  await key.touch(true);
  const strong = await sentBack(page, 'com.example.clients', () => page.locator('#passkey button').click());
  assert.deepEqual((await expect(200, 'GET', '/v1/transfers', { token: strong.access_token })), { transfers: [] });
  await calm();
});

// --- deletion --------------------------------------------------------------

for (const javaScriptEnabled of [true, false]) {
  await visit('Chromium', `deletes an account, undoes it there, deletes it again and undoes it when signing in to a client${javaScriptEnabled ? '' : ', without JavaScript'}`, async () => {
    const address = somebody();
    const phone = await account(address);
    const { page, calm } = await open({ javaScriptEnabled });
    const erase = async (signIn) => {
      await page.goto(`${base}/account/delete`);
      await leads(page, () => page.getByRole('link', { name: 'Go on to delete the account' }).click());
      await signIn(page, address);
      await page.getByText(`You are signed in as ${address}`).waitFor();
      await leads(page, () => page.getByRole('button', { name: 'Delete the account' }).click());
      await page.getByRole('heading', { name: 'Your account is going to be deleted' }).waitFor();
      assert.equal(page.url(), `${base}/account/delete`);
    };
    await erase(byCode);
    await refused(401, 'account_deleted', 'GET', '/v1/me', { token: phone.token });
    await page.reload();
    await leads(page, () => page.getByRole('button', { name: 'Undo the deletion' }).click());
    await page.getByRole('heading', { name: 'Your account stays' }).waitFor();
    await erase(byPassword);
    await page.goto(authorize('com.example.clients'));
    await byPassword(page, address);
    await page.getByRole('heading', { name: 'Your account is going to be deleted' }).waitFor();
    const tokens = await sentBack(page, 'com.example.clients', () => page.getByRole('button', { name: 'Undo the deletion' }).click());
    await expect(200, 'GET', '/v1/me', { token: tokens.access_token });
    await calm();
  });
}

await visit('Chromium', 'takes a copy of the data from the deletion page', async () => {
  const address = somebody();
  await account(address);
  const { page, calm } = await open();
  await page.goto(`${base}/account/delete/confirm`);
  await byCode(page, address);
  await leads(page, () => page.getByRole('button', { name: 'Take a copy of my data first' }).click());
  const fetchIt = await copyReady(page, 'Download the copy');
  const [download] = await Promise.all([page.waitForEvent('download'), fetchIt.click()]);
  assert.equal(readFileSync(await download.path()).subarray(0, 2).toString(), 'PK');
  await calm();
});

// --- what the pages are to people -------------------------------------------

// texts of the pages by language, to press what a person would read.
const catalogue = (lang) => {
  const own = JSON.parse(readFileSync(new URL(`../../internal/identity/pages/text/${lang === 'pl' ? 'pl' : 'en'}.json`, import.meta.url)));
  return (key) => (lang === 'ar' ? `⟦${own[key]}⟧` : own[key]);
};

// tour goes through every page and its variants, and calls see at each.
async function tour(options, lang, see) {
  const { context, page, calm } = await open({ locale: lang, ...options });
  const t = catalogue(lang);
  const key = await authenticator(context, page);
  await withPasskey(page, 'Hedy');
  await key.touch(false);
  const [one, two] = [somebody(), somebody()];
  await account(one);
  await account(two);
  const press = (text) => leads(page, () => page.getByRole('button', { name: t(text), exact: true }).click());
  const link = (text) => leads(page, () => page.getByRole('link', { name: t(text), exact: true }).click());

  await page.goto(authorize('partner'));
  await page.locator('#passkey button').waitFor();
  await see('sign_in', page);
  await page.locator('#login').fill(one);
  await page.locator('#password').fill('wrong');
  await step(page, 'password');
  await see('sign_in fault', page);
  await page.locator('#email').fill(one);
  await step(page, 'send');
  await see('code', page);
  await page.locator('#code').fill('00000');
  await step(page, 'code');
  await see('code fault', page);
  await page.locator('#code').fill(await codeFor(one));
  await step(page, 'code');
  await see('consent', page);
  await page.goto(authorize('partner', { prompt: 'login' }));
  await byPassword(page, two);
  await page.goto(authorize('partner', { prompt: 'select_account' }));
  await see('choose', page);
  await page.goto(authorize('com.example.clients', { acr_values: 'phr', prompt: 'login' }));
  await page.locator('#passkey button').waitFor();
  await see('sign_in passkey', page);
  await page.goto(`${base}/oauth/authorize?client_id=nobody`);
  await see('failed', page);
  await page.goto(`${base}/account/export?id=exp_01h455vb4pex5vsknk084sn02q`);
  await leads(page, () => page.locator(`button[name="user"]`).first().click());
  await see('failed fault', page);

  await page.goto(`${base}/account`);
  await leads(page, () => page.locator(`button[name="user"]`, { hasText: one }).click());
  await see('account', page);
  await press('export.ask');
  await see('export', page);
  await copyReady(page, t('export.fetch'));
  await see('export ready', page);

  await page.goto(`${base}/account/delete`);
  await see('delete', page);
  await link('delete.next');
  await leads(page, () => page.locator(`button[name="user"]`, { hasText: one }).click());
  await see('confirm', page);
  await press('confirm.submit');
  await see('deleting', page);
  await press('deleting.undo');
  await see('kept', page);
  await page.goto(`${base}/account/delete/confirm`);
  await press('confirm.submit'); // of the other one, who is signed in yet
  await page.goto(`${base}/account/delete/confirm`);
  await page.locator('#passkey button').waitFor();
  await see('sign_in own', page);
  await byPassword(page, two);
  await see('deleting pending', page);
  await press('deleting.undo');

  await page.goto(`${base}/oauth/end-session`);
  await see('sign_out', page);
  await step(page, 'sign_out');
  await see('signed_out', page);
  await calm();
}

const tours = [
  ['en', 'light', { viewport: { width: 1280, height: 800 }, colorScheme: 'light' }],
  ['en', 'dark at 320 px', { viewport: { width: 320, height: 640 }, colorScheme: 'dark' }],
  ['pl', 'light on a phone, with text twice as large', { viewport: { width: 640, height: 1280 }, deviceScaleFactor: 1, colorScheme: 'light' }],
  ['ar', 'dark at 320 px, in a language of one\'s own', { viewport: { width: 320, height: 640 }, colorScheme: 'dark' }],
];

// judge fails for whatever axe-core finds by the rules of WCAG 2.2 AA and of good
// practice, for what does not fit the width, and for focus that cannot be seen.
async function judge(name, page, lang, large) {
  if (large) await page.evaluate(() => { document.documentElement.style.fontSize = '200%'; });
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
  assert.deepEqual(violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html).join(' ')}`), [], name);
  const found = await page.evaluate(() => {
    const { lang, dir } = document.documentElement;
    const texts = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const text = walk.currentNode.data.trim();
      if (text && !['STYLE', 'SCRIPT'].includes(walk.currentNode.parentElement.tagName)) texts.push(text);
    }
    return { lang, dir, title: document.title, wide: document.documentElement.scrollWidth - document.documentElement.clientWidth, texts };
  });
  assert.deepEqual([found.lang, found.dir], [lang, lang === 'ar' ? 'rtl' : 'ltr'], name);
  assert.ok(found.title.includes(' · Flights'), `${name}: the title is ${found.title}`);
  assert.ok(found.wide <= 0, `${name} is ${found.wide} px wider than the window`);
  return found;
}

// focus goes through the page with the Tab key and returns what it met.
async function focus(name, page) {
  const wanted = await page.locator('a[href]:visible, button:visible, input:visible').count();
  let met = 0;
  for (let n = 0; n < wanted + 2; n++) {
    await page.keyboard.press('Tab');
    const ring = await page.evaluate(() => {
      const at = document.activeElement;
      if (!at || at === document.body) return undefined;
      const style = getComputedStyle(at);
      return { tag: at.outerHTML.slice(0, 80), width: parseFloat(style.outlineWidth), style: style.outlineStyle };
    });
    if (!ring) continue;
    met++;
    assert.ok(ring.width >= 2 && ring.style !== 'none', `${name}: focus cannot be seen on ${ring.tag}`);
  }
  assert.ok(met >= wanted, `${name}: the Tab key reaches ${met} of ${wanted}`);
}

// What is no text of the pages: names, addresses, a date, texts of the configuration, messages for developers.
const data = [/^Flights$/, /@example\.com$/, /^Partner Travel$/, /^(Your trips and favourites|Invoices, for five years, as tax law demands)$/, /^client_id is/, /^: /];

for (const [lang, how, options] of tours) {
  await flow('Chromium, axe-core', `every page in ${lang === 'ar' ? 'a language of one\'s own' : lang}, ${how.replace(", in a language of one's own", '')}: no finding, nothing cut off, focus is seen`, async () => {
    const seen = [];
    await tour(options, lang, async (name, page) => {
      seen.push(name);
      const { texts } = await judge(name, page, lang, how.includes('twice as large'));
      if (lang === 'ar') for (const text of texts) assert.ok(/^⟦[^]*⟧$/.test(text) || data.some((d) => d.test(text)), `${name}: ${JSON.stringify(text)} is not in the catalogue`);
      await focus(name, page);
      if (settings.shots) {
        mkdirSync(settings.shots, { recursive: true });
        await page.evaluate(() => document.activeElement?.blur());
        await page.screenshot({ path: join(settings.shots, `${name.replaceAll(' ', '-')}-${lang}-${options.colorScheme}-${options.viewport.width}.png`), fullPage: true });
      }
    });
    assert.equal(seen.length, 20);
  });
}

await browser.close();
client.close();

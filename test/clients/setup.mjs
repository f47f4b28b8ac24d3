// What every client test needs: the server's address, and a person who reads
// their mail. LANDLINE_URL is the server, MAIL_DIR where it writes messages to.
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Browser } from './browser.mjs'

export const base = process.env.LANDLINE_URL
export const secret = process.env.CLIENT_SECRET
const mail = process.env.MAIL_DIR

let failed = 0

// flow runs one flow and says how it went.
export async function flow(name, run) {
  try {
    await run()
    console.log(`ok ${name}`)
  } catch (err) {
    failed++
    console.log(`not ok ${name}: ${err?.stack ?? err}`)
    for (let cause = err?.cause; cause; cause = cause.cause) console.log(cause)
  }
}

export function done() {
  process.exitCode = failed === 0 ? 0 : 1
}

export function equal(got, want, what) {
  if (got !== want) throw new Error(`${what} is ${JSON.stringify(got)}, want ${JSON.stringify(want)}`)
}

// codeFor waits for the message to address and returns its code.
async function codeFor(address, before) {
  for (let i = 0; i < 200; i++) {
    const files = (await readdir(mail).catch(() => [])).sort()
    for (const file of files.reverse()) {
      if (before.has(file)) continue
      const message = await readFile(join(mail, file), 'utf8').catch(() => '') // a message that is being written has another name a moment later
      const code = message.match(/^\s*(\d{6,8})\s*$/m) ?? message.match(/\b(\d{6,8})\b(?=[^@]*$)/m)
      if (message.includes(address) && code) return code[1]
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`no message to ${address}`)
}

// signIn takes a person through the pages of an authorization request, with a
// code from their mail, and returns where the client is sent back to.
export async function signIn(url, address, browser = new Browser(base)) {
  let page = await browser.open(url)
  for (let i = 0; i < 6 && !page.away; i++) {
    if (page.html.includes('name="user"')) page = await browser.press(page, page.html.includes('value="allow"') ? 'step' : 'user', page.html.includes('value="allow"') ? 'allow' : undefined)
    else if (page.html.includes('value="allow"')) page = await browser.press(page, 'step', 'allow')
    else {
      const before = new Set(await readdir(mail).catch(() => []))
      const sent = await browser.press(page, 'step', 'send', { email: address })
      page = await browser.press(sent, 'step', 'code', { code: await codeFor(address, before) })
    }
  }
  if (!page.away) throw new Error(`the pages lead nowhere: ${page.html}`)
  return page.away
}

// A browser without JavaScript, for the hosted sign-in pages: it keeps cookies,
// reads forms, and stops at the first address that is not the server's own.

const text = (s) => s.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&#34;', '"').replaceAll('&#39;', "'").replaceAll('&#43;', '+').replaceAll('&amp;', '&')

export class Browser {
  constructor(base) {
    this.base = base
    this.cookies = new Map()
  }

  // open fetches a page and follows redirects of the server. It returns {html} or {away}.
  async open(url, init = {}) {
    for (let i = 0; i < 10; i++) {
      const headers = { ...init.headers, cookie: [...this.cookies].map(([k, v]) => `${k}=${v}`).join('; ') }
      const res = await fetch(url, { ...init, headers, redirect: 'manual' })
      for (const line of res.headers.getSetCookie()) {
        const [pair] = line.split(';')
        const at = pair.indexOf('=')
        this.cookies.set(pair.slice(0, at), pair.slice(at + 1))
      }
      const to = res.headers.get('location')
      if (to === null) return { html: await res.text(), status: res.status }
      const next = new URL(to, url)
      if (next.origin !== new URL(this.base).origin) return { away: next }
      url = next
      init = {}
    }
    throw new Error('too many redirects')
  }

  // press sends the form of page that has the button, with values filled in.
  async press(page, name, value, fill = {}) {
    for (const [, action, body] of page.html.matchAll(/<form method="post" action="([^"]*)">(.*?)<\/form>/gs)) {
      const buttons = [...body.matchAll(/<button[^>]* name="([^"]*)" value="([^"]*)"/g)]
      const button = buttons.find(([, n, v]) => n === name && (value === undefined || text(v) === value))
      if (!button) continue
      const form = new URLSearchParams()
      for (const [, n, v] of body.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)">/g)) form.set(text(n), text(v))
      form.set(name, text(button[2]))
      for (const [k, v] of Object.entries(fill)) form.set(k, v)
      return this.open(new URL(text(action), this.base), {
        method: 'POST', body: form.toString(),
        headers: { 'content-type': 'application/x-www-form-urlencoded', 'sec-fetch-site': 'same-origin' },
      })
    }
    throw new Error(`no button ${name}=${value} on: ${page.html}`)
  }
}

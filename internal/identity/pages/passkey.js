// Adds passkeys to the sign-in page: a button, and passkeys among the suggestions
// of the address fields where the browser can do that (WebAuthn Level 3 §5.1.4,
// conditional mediation). Without it the page works with its other ways.
(() => {
  'use strict';
  const form = document.getElementById('passkey');
  if (!form || !window.PublicKeyCredential || !navigator.credentials) return;
  const button = form.querySelector('button');
  const status = form.querySelector('[role=status]');
  let waiting; // the ceremony that suggestions wait for
  let asked = false; // by the button: a ceremony of suggestions would be in its way

  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');

  async function options() {
    const fields = new URLSearchParams(new FormData(form));
    fields.delete('step');
    fields.delete('passkey');
    const answer = await fetch(form.dataset.options, { method: 'POST', body: fields, credentials: 'same-origin', redirect: 'error' });
    if (!answer.ok) throw new Error(String(answer.status));
    const o = await answer.json();
    return { ...o, challenge: bytes(o.challenge), allowCredentials: (o.allowCredentials ?? []).map((c) => ({ ...c, id: bytes(c.id) })) };
  }

  function send(credential) {
    const r = credential.response;
    form.elements.passkey.value = JSON.stringify({
      id: credential.id, rawId: text(credential.rawId), type: credential.type, clientExtensionResults: credential.getClientExtensionResults(),
      authenticatorAttachment: credential.authenticatorAttachment ?? undefined,
      response: {
        clientDataJSON: text(r.clientDataJSON), authenticatorData: text(r.authenticatorData), signature: text(r.signature),
        userHandle: r.userHandle ? text(r.userHandle) : undefined,
      },
    });
    form.submit();
  }

  // suggest waits until the person picks a passkey in an address field. A challenge
  // that grows old is replaced, a few times.
  async function suggest() {
    for (let i = 0; i < 6; i++) {
      const publicKey = await options();
      if (asked) return;
      waiting = new AbortController();
      const old = setTimeout((w) => w.abort('old'), publicKey.timeout ?? 240000, waiting);
      try {
        const credential = await navigator.credentials.get({ publicKey, mediation: 'conditional', signal: waiting.signal });
        if (credential) send(credential);
        return;
      } catch (why) {
        if (why !== 'old') return;
      } finally {
        clearTimeout(old);
      }
    }
  }

  button.addEventListener('click', async () => {
    asked = true;
    waiting?.abort('asked');
    status.textContent = '';
    button.disabled = true;
    try {
      send(await navigator.credentials.get({ publicKey: await options() }));
    } catch {
      status.textContent = form.dataset.failed;
      button.disabled = false;
    }
  });

  form.hidden = false;
  if (document.querySelector('input[autocomplete~=webauthn]')) {
    PublicKeyCredential.isConditionalMediationAvailable?.().then((can) => can && suggest()).catch(() => {});
  }
})();

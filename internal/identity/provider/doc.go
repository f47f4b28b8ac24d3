// Package provider is the outside half of sign-in: it turns what Apple, Google,
// an OpenID Connect issuer or a team's own token authority hands an app (an ID
// token, an authorization code, a redirect, a notice) into verified facts.
//
// What it guarantees:
//
//   - Claims come from a token whose signature was verified with a key of its
//     issuer, by an algorithm that the configuration allows, and whose issuer,
//     audience, authorized party, type, times and nonce all hold (OpenID Connect
//     Core 1.0 §3.1.3.7, RFC 8725). There is no way past a check: a provider that
//     cannot be reached gives ErrUnavailable, never unverified claims.
//   - The identity key is (Issuer, Subject). Issuer is one canonical text for
//     each provider, also where the provider writes it in several ways.
//   - Nothing is parsed before its size is bounded: 8 KiB and two dots for a
//     token, 256 KiB for a document of the provider, 100 keys a set.
//   - A provider that is down costs nothing while its keys are known: they stay
//     good for Config.MaxStale (24 hours by default). A key that is not known
//     makes a fetch at once, shared by all callers; four in a row and one in ten
//     seconds at most.
//   - Addresses that a discovery document names are the provider's word, not the
//     operator's: they are called only on public networks, or on the issuer's own
//     origin, or on hosts that the configuration trusts by name. No redirect is
//     followed.
//   - No error, log line or metric holds a token, a code, a nonce or a secret.
//
// What it does not:
//
//   - It stores nothing. Single use is the caller's: Claims.ReplayID and
//     Notice.ReplayID are to be stored until Claims.ExpiresAt and
//     Notice.KeepUntil, in the transaction of their effect; a Pending is to be
//     kept, encrypted, and used once.
//   - It knows no users, and never says that two identities are one person. An
//     e-mail address is data, also a verified one.
//   - It does not prove that a token was revoked: see Revocation.
package provider

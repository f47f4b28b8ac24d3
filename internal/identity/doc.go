// Package identity knows every installation, its users and their sessions, and
// says who makes a request.
//
// What it guarantees:
//
//   - One first launch makes one installation, one anonymous user and one
//     session, however often and however parallel it is repeated, as long as the
//     app repeats its Idempotency-Key or its public key. An app that shows its
//     installation's credential again gets the same user again.
//   - A client that stores every refresh token it receives is never signed out
//     before the session's absolute end: not by lost answers, not by retries,
//     not by two of its processes refreshing at once. A stolen refresh token ends
//     the session once thief and owner have both used the line. The rules are
//     R0 to R10 in session.go; each is a row of one pure function.
//   - An answer is given only after what it says is durable. When the outcome of
//     a commit is not known, the client is asked to retry, and the retry is safe.
//   - Access tokens are verified without I/O. A revoked session's access tokens
//     are refused on the revoking node at once and on every other within a
//     second, with or without Redis.
//   - One sign-in with one credential promotes, merges or adds, by the matrix of
//     DecideSignIn, in one transaction. It may be repeated; nothing is lost,
//     doubled or given to another user. An e-mail address alone links nothing.
//     Accounts become one on proof of both and the user's word alone, where the
//     configuration allows it, and no capability objects.
//   - A refusal that is a question to the user leaves the credential good for the
//     answer, on the installation that showed it.
//   - A user can see and end their sessions, take a copy of everything, and leave;
//     a restored backup brings nobody back.
//   - Nothing in the database opens anything: refresh tokens and installation
//     secrets are derived with keys of the secret ring, idempotency keys are
//     stored as MACs, and what providers tell of people is sealed with each
//     user's own key.
//   - The authorization server sends users and codes nowhere but to a redirect
//     URI of the client's configuration, issues codes with PKCE alone, and gives
//     tokens for each code once. A token that is bound to a key is refused without
//     a proof of it. Nobody is signed in on the hosted pages by a form, link or
//     cookie of somebody else's.
//
// What it does not:
//
//   - A request that arrives once more later than the grace window (30 s) after
//     the token was first exchanged, when the client has already got and stored the
//     answer to a repeat of it, cannot be told from a thief's, and costs the session
//     when the client next refreshes. The installation's credential then opens a
//     new session for the same anonymous user.
//   - It limits first launches, refreshes and sign-ins of one person (limits.go);
//     what else is called too often the gateway refuses, by feature.
package identity

// Package mail sends messages to people: over SMTP, or into files where there is
// no server, as in development; and it has the texts, per language.
//
// What it guarantees:
//   - What a value holds cannot become a header, a second recipient or HTML: there
//     is one recipient, subjects and addresses with control characters are
//     refused, HTML is escaped by where a value stands.
//   - The connection is encrypted, with the server's certificate verified, before
//     the password or a message is sent, unless the configuration says tls: none.
//   - An error says whether another attempt helps (Error.Temporary).
//   - A message that is sent again under the same Key has the same Message-ID, so
//     that most mailboxes show it once.
//   - Neither errors nor logs hold the recipient's address, nor what was written.
//   - At most smtp.connections connections are open, each used by one message at a
//     time; who waits for one gives up with its context.
//
// What it does not: it does not queue, and tries a message once. Work that must
// survive is a job of the caller's. That a server took a message does not mean
// that it arrives. A connection lost between the last byte and the server's
// answer leaves open whether it was taken; that is a temporary error.
package mail

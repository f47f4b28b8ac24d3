// Package apikey keeps API keys: secrets by which programs that are no
// installation of the app (a partner's server, a build, a website) are told
// apart, counted and shut out.
//
// What it guarantees:
//   - A key is a random secret of 256 bits that is shown once; the database has
//     its MAC under a key of the ring. Making and ending one is audited in the
//     same transaction.
//   - Find asks no database: every node holds all live keys. An end takes effect
//     at once on the node that made it, on the others when the bus tells them,
//     and in any case within five seconds.
//   - A node that cannot read the database goes on with the keys it knows.
//
// What it does not: a key is no user. It opens nothing that needs a signed-in
// installation or an account.
package apikey

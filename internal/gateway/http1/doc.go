// Package http1 sends requests to upstreams over HTTP/1.1 in clear text. It is
// the short way beside net/http's Transport: a request is written and the
// header of its answer is read on the goroutine that asks, so that no request
// is handed from goroutine to goroutine, and a connection that waits for its
// next request has neither a goroutine nor a buffer.
//
// What it guarantees:
//
//   - One request, one answer. A connection is used again only after its answer
//     was read to its end, which Content-Length or the last chunk told, and with
//     nothing behind it; and after its request was written to its end. Before a
//     connection is used again it is looked at: one that was closed, or on which
//     something came that nobody asked for, is thrown away.
//
//   - Answers are framed by RFC 9112 §6.3 alone. What leaves room for two
//     readings is refused: Content-Lengths that differ, that are lists or signed,
//     any transfer coding but chunked, Transfer-Encoding over HTTP/1.0, space
//     before the colon, a name that is no token, control characters. An answer
//     with both Transfer-Encoding and Content-Length is read as chunked and is the
//     last on its connection.
//
//   - A request is sent a second time only where that cannot execute it twice:
//     nothing of it was written, or it is a GET, HEAD, OPTIONS or TRACE without a
//     body; and only if the connection had been used before and not one byte of an
//     answer came.
//
//   - Nothing grows without bound: the header of an answer, trailers, the number of
//     informational answers, connections to one host, unused connections.
//
//   - Ending the context closes the connection, at whatever point the request is.
//
// What it does not: TLS, HTTP/2, proxies, upgrades (a 101 is a fault),
// redirects, cookies, compression. Those stay with net/http.
//
// It also has the Server, the same for the other side: see there.
package http1

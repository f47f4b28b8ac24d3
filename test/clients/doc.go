// Package clients runs OAuth clients and an OpenID provider that others wrote
// against the built binary. They are Node packages: `npm ci` in this folder
// installs them. The flows are listed in docs/reference/clients.md.
package clients

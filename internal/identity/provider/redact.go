package provider

import "log/slog"

// What holds tokens, secrets or personal data prints as who it is of, with every
// verb of fmt and in every log.

// String is the provider and the issuer.
func (c *Claims) String() string { return "claims of " + c.Issuer + " by " + c.Provider }

// LogValue is String.
func (c *Claims) LogValue() slog.Value { return slog.StringValue(c.String()) }

// String is the provider and the kind.
func (n Notice) String() string { return string(n.Kind) + " of " + n.Provider }

// LogValue is String.
func (n Notice) LogValue() slog.Value { return slog.StringValue(n.String()) }

// String says what it is.
func (t Token) String() string { return "a provider's token" }

// LogValue is String.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// String is the client id.
func (c Code) String() string { return "an authorization code of " + c.ClientID }

// LogValue is String.
func (c Code) LogValue() slog.Value { return slog.StringValue(c.String()) }

// String is the provider.
func (p Pending) String() string { return "a pending sign-in with " + p.Provider }

// LogValue is String.
func (p Pending) LogValue() slog.Value { return slog.StringValue(p.String()) }

// String is the client id.
func (c Callback) String() string { return "a redirect with " + c.Code.String() }

// LogValue is String.
func (c Callback) LogValue() slog.Value { return slog.StringValue(c.String()) }

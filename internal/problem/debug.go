package problem

import "context"

type debugKey struct{}

// WithDebug marks ctx so that causes are shown to the client; only the development profile does.
func WithDebug(ctx context.Context) context.Context {
	return context.WithValue(ctx, debugKey{}, true)
}

// Debug is the member "debug" of e's body: its cause where WithDebug marked ctx, else "".
func Debug(ctx context.Context, e *Error) string {
	if on, _ := ctx.Value(debugKey{}).(bool); on && e.Cause != nil {
		return e.Cause.Error()
	}
	return ""
}

package problem

import "context"

type debugKey struct{}

// WithDebug marks ctx so that Write shows causes to the client; only the development profile does.
func WithDebug(ctx context.Context) context.Context {
	return context.WithValue(ctx, debugKey{}, true)
}

func debugEnabled(ctx context.Context) bool {
	on, _ := ctx.Value(debugKey{}).(bool)
	return on
}

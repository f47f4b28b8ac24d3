package main

import "context"

func linear(ctx context.Context, h *house, r *report) error { return nil }

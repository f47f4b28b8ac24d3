package main

import "context"

func nodes(ctx context.Context, h *house, r *report) error { return nil }

package main

import "context"

func dependencies(ctx context.Context, h *house, r *report) error { return nil }

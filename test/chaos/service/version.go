//go:build !chaos_next

package main

import "embed"

const version = "chaos-1"

//go:embed migrations/0001_orders.sql
var files embed.FS

const insertOrder = `INSERT INTO orders_order (id, user_id) VALUES ($1, $2)`

//go:build chaos_next

package main

import "embed"

const version = "chaos-2"

//go:embed migrations/*.sql
var files embed.FS

// The version before does not know the column note and must go on writing beside this one.
const insertOrder = `INSERT INTO orders_order (id, user_id, note) VALUES ($1, $2, 'made by the next version')`

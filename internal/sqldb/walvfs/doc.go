// Package walvfs joins the writes of a commit.
package walvfs

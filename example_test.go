package landline_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing/fstest"

	"landline"
)

// A note is written in one transaction with its Idempotency-Key, so that a
// repeated request gets the answer of the first.
func ExampleNew() {
	notes := landline.Feature{
		Name: "notes", Owner: "team-notes", Auth: landline.None,
		Migrations: fstest.MapFS{"0001_notes.sql": {Data: []byte("-- +goose Up\nCREATE TABLE notes_note (id BIGINT PRIMARY KEY, text TEXT NOT NULL);")}},
		Routes: []landline.Route{
			landline.Write("POST /v1/notes", func(ctx context.Context, tx *landline.Tx, r *landline.Request) (*landline.Response, error) {
				var note struct{ Text string }
				if err := r.JSON(&note); err != nil {
					return nil, err
				}
				var id int
				err := tx.QueryRowContext(ctx, `INSERT INTO notes_note (id, text) SELECT COUNT(*) + 1, $1 FROM notes_note RETURNING id`, note.Text).Scan(&id)
				if err != nil {
					return nil, err
				}
				return landline.JSON(201, map[string]any{"id": id, "text": note.Text})
			}),
		},
	}
	data, err := os.MkdirTemp("", "notes-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(data)
	srv, err := landline.New(landline.Options{
		Config: []byte("{}"), Public: "127.0.0.1:0", Admin: "127.0.0.1:0", DataDir: data, Stdout: io.Discard, Stderr: io.Discard,
	}, notes)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()

	for range 2 {
		req, err := http.NewRequest("POST", "http://"+srv.PublicAddr().String()+"/v1/notes", strings.NewReader(`{"text":"buy milk"}`))
		if err != nil {
			fmt.Println(err)
			return
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", "note-1")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, err := io.ReadAll(res.Body)
		fmt.Println(res.StatusCode, string(body), res.Header.Get("Idempotent-Replayed"), err)
		res.Body.Close()
	}
	stop()
	fmt.Println(<-done)
	// Output:
	// 201 {"id":1,"text":"buy milk"}  <nil>
	// 201 {"id":1,"text":"buy milk"} true <nil>
	// <nil>
}

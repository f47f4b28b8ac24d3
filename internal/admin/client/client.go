// Package client calls the admin API of a running Landline, for the command line.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"landline/internal/admin"
	"landline/internal/egress"
	"landline/internal/problem"
	"landline/internal/rest"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 20

// Client calls one admin listener. It is safe for concurrent use.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// New returns a client for the admin listener at baseURL, for example
// http://127.0.0.1:8081, that presents an operator's token.
func New(baseURL, token string) (*Client, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the admin address must be like http://127.0.0.1:8081")
	}
	if token == "" {
		return nil, errors.New("an operator's token is needed; make one with `landline operator add`")
	}
	c := egress.New(egress.Options{Name: "admin", Timeout: 40 * time.Second, MaxResponse: maxAnswer})
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the token goes nowhere else
	return &Client{base: strings.TrimRight(baseURL, "/"), token: token, http: c}, nil
}

// Error is a problem that the server answered.
type Error struct {
	Status     int
	Code       problem.Code
	Title      string
	Detail     string
	TraceID    string
	RetryAfter time.Duration
	Errors     json.RawMessage // each fault, as the code documents it; nil when none
}

// Error is one sentence for the terminal.
func (e *Error) Error() string {
	s := e.Title
	if e.Detail != "" {
		s = strings.TrimSuffix(s, ".") + ": " + e.Detail
	}
	s += fmt.Sprintf(" (%d %s", e.Status, e.Code)
	if e.TraceID != "" {
		s += ", trace " + e.TraceID
	}
	return s + ")"
}

// Status says how the node is doing.
func (c *Client) Status(ctx context.Context) (admin.Status, error) {
	return call[admin.Status](ctx, c, http.MethodGet, "/admin/v1/status", nil)
}

// Reload has the configuration file read again and says what changed. Faults
// come back as an *Error of code config_invalid.
func (c *Client) Reload(ctx context.Context, reason string) (admin.ReloadReport, error) {
	return call[admin.ReloadReport](ctx, c, http.MethodPost, "/admin/v1/config/reload", why{reason})
}

// DiffConfig says what a reload would change.
func (c *Client) DiffConfig(ctx context.Context) (admin.ConfigDiff, error) {
	return call[admin.ConfigDiff](ctx, c, http.MethodPost, "/admin/v1/config/diff", nil)
}

// JobFilter selects jobs; zero members select all.
type JobFilter struct {
	State, Kind, Lane string
	Limit             int // per page, 1–200; 0 = 50
	Cursor            string
}

// Jobs returns one page of jobs, newest first, and the cursor of the next or "".
func (c *Client) Jobs(ctx context.Context, f JobFilter) ([]admin.Job, string, error) {
	q := url.Values{}
	for name, v := range map[string]string{"state": f.State, "kind": f.Kind, "lane": f.Lane, "cursor": f.Cursor} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	path := "/admin/v1/jobs"
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	out, err := call[rest.List[admin.Job]](ctx, c, http.MethodGet, path, nil)
	if err != nil {
		return nil, "", err
	}
	if out.Page.Next == nil {
		return out.Data, "", nil
	}
	return out.Data, *out.Page.Next, nil
}

// Job returns one job.
func (c *Client) Job(ctx context.Context, id int64) (admin.Job, error) {
	return call[admin.Job](ctx, c, http.MethodGet, fmt.Sprintf("/admin/v1/jobs/%d", id), nil)
}

// RetryJob makes a finished job run again.
func (c *Client) RetryJob(ctx context.Context, id int64, reason string) (admin.Job, error) {
	return call[admin.Job](ctx, c, http.MethodPost, fmt.Sprintf("/admin/v1/jobs/%d/retry", id), why{reason})
}

// CancelJob stops a job that has not finished.
func (c *Client) CancelJob(ctx context.Context, id int64, reason string) (admin.Job, error) {
	return call[admin.Job](ctx, c, http.MethodPost, fmt.Sprintf("/admin/v1/jobs/%d/cancel", id), why{reason})
}

type why struct {
	Reason string `json:"reason,omitempty"`
}

// call sends in as JSON, when it is not nil, and decodes the answer.
func call[T any](ctx context.Context, c *Client, method, path string, in any) (out T, err error) {
	res, raw, err := c.send(ctx, method, path, in)
	if err != nil {
		return out, err
	}
	if res.StatusCode >= 300 {
		return out, asError(res, raw)
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return out, fmt.Errorf("%s %s: the answer is not what this version expects: %w", method, path, err)
	}
	return out, nil
}

func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, []byte, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("the admin listener at %s does not answer (is Landline running there?): %w", c.base, err)
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return nil, nil, fmt.Errorf("%s %s: the answer was cut short: %w", method, path, err)
	}
	return res, raw, nil
}

// asError reads a problem; anything else came from something that is not Landline.
func asError(res *http.Response, raw []byte) error {
	kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil || kind != problem.MediaType {
		return fmt.Errorf("%s answered %s, which is not an answer of Landline's admin API: check the address", res.Request.URL.Host, res.Status)
	}
	var p struct {
		Code       problem.Code    `json:"code"`
		Title      string          `json:"title"`
		Detail     string          `json:"detail"`
		TraceID    string          `json:"trace_id"`
		RetryAfter int             `json:"retry_after"`
		Errors     json.RawMessage `json:"errors"`
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("%s: the problem is not readable: %w", res.Status, err)
	}
	return &Error{
		Status: res.StatusCode, Code: p.Code, Title: p.Title, Detail: p.Detail, TraceID: p.TraceID,
		RetryAfter: time.Duration(p.RetryAfter) * time.Second, Errors: p.Errors,
	}
}

package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"landline/internal/egress"
	"landline/internal/observe"
)

// Bounds on what is read and kept of an answer. A longer one is not read to its end.
const (
	maxAnswer  = math.MaxInt64 // the reading is bounded here
	maxRead    = 4 << 10
	maxExcerpt = 200 // bytes kept of a refusal's body
	maxError   = 300
	drainTime  = time.Second // for the rest of an accepted answer, so that its connection can be used again
)

const userAgent = "Landline-Webhook/1"

// message is one delivery as it goes out.
type message struct {
	deliveryID, eventID string
	attempts, round     int64 // before this attempt
	body                string
	traceID             string
	at                  time.Time // of the event
}

// result is what came of one attempt.
type result struct {
	at      time.Time
	took    time.Duration
	status  int           // 0 = no answer
	err     string        // why it failed; "" = delivered
	excerpt string        // beginning of a refusal's body, redacted
	asked   time.Duration // Retry-After
	kind    string        // label of the metrics: 2xx to 5xx, timeout, blocked, error
}

func (r result) delivered() bool { return r.err == "" }

// outcome is what the attempt says of the endpoint, apart from the event: an
// answer of 4xx shows that it is there.
func (r result) outcome() outcome {
	switch {
	case r.status == 0, r.status >= 500, r.status == http.StatusTooManyRequests, r.status == http.StatusRequestTimeout:
		return down
	}
	return up
}

// pause is how long the endpoint as a whole asked to be left alone.
func (r result) pause() time.Duration {
	if r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable {
		return r.asked
	}
	return 0
}

// send makes one attempt. It never returns an error: that a receiver fails is a result.
func (e *endpoint) send(ctx context.Context, m message, now time.Time) result {
	r := result{at: now}
	start := time.Now()
	res, err := e.post(ctx, m, now)
	r.took = time.Since(start)
	if err != nil {
		r.err, r.kind = failure(err)
		return r
	}
	r.status, r.kind = res.StatusCode, strconv.Itoa(res.StatusCode/100)+"xx"
	if res.StatusCode < 200 || res.StatusCode > 299 {
		r.asked = retryAfter(res.Header, now)
		r.err = refusal(res)
		r.excerpt = excerpt(res.Body)
	} else {
		drain(res.Body)
	}
	if err := res.Body.Close(); err != nil && r.err == "" {
		r.excerpt = "" // accepted all the same: the status had come
	}
	return r
}

func (e *endpoint) post(ctx context.Context, m message, now time.Time) (*http.Response, error) {
	if m.traceID != "" {
		ctx = observe.WithTrace(ctx, m.traceID, observe.NewSpanID())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, strings.NewReader(m.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set(HeaderID, m.eventID)
	req.Header.Set(HeaderTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(HeaderSignature, Sign(e.keys, m.eventID, now, []byte(m.body)))
	return e.client.Do(req)
}

// failure says in few words why there was no answer. It leaves out the URL,
// which *url.Error quotes whole.
func failure(err error) (text, kind string) {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	switch {
	case errors.Is(err, egress.ErrBlocked):
		return clean(err.Error(), maxError), "blocked"
	case egress.IsTimeout(err), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time", "timeout"
	}
	return clean(err.Error(), maxError), "error"
}

func refusal(res *http.Response) string {
	switch {
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return fmt.Sprintf("it answered %d: redirects are not followed, change the endpoint's url", res.StatusCode)
	case res.StatusCode == http.StatusGone:
		return "it answered 410: it wants no more events"
	}
	return fmt.Sprintf("it answered %d", res.StatusCode)
}

// excerpt is the beginning of a body, readable and without what looks like a secret.
func excerpt(body io.Reader) string {
	b, err := io.ReadAll(io.LimitReader(body, maxRead))
	if err != nil && len(b) == 0 {
		return ""
	}
	return clean(string(b), maxExcerpt)
}

// clean makes text storable: valid UTF-8 on one line, redacted, at most n bytes.
func clean(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	text = strings.TrimSpace(observe.Redact(text))
	if len(text) > n {
		text = strings.ToValidUTF8(text[:n-len("…")], "") + "…"
	}
	return text
}

// drain reads a little of what the receiver goes on to say, for a little while.
func drain(body io.ReadCloser) {
	stop := time.AfterFunc(drainTime, func() { body.Close() })
	defer stop.Stop()
	if _, err := io.Copy(io.Discard, io.LimitReader(body, maxRead)); err != nil {
		return // the status has come: the rest does not matter
	}
}

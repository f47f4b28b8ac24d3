package gateway

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"time"

	"landline/internal/gateway/health"
)

// watch prepares what watches the upstream's targets. What is known of a
// target is taken over from old by its URL; if nothing has changed, the whole
// monitor is, and its probes go on undisturbed.
func (u *upstream) watch(o *Options, old *upstream) error {
	known := map[string]*target{}
	if old != nil {
		for _, t := range old.targets {
			known[t.url()] = t
		}
	}
	for _, t := range u.targets {
		if before := known[t.url()]; before != nil {
			t.inFlight, t.health = before.inFlight, before.health
		} else {
			t.health = health.NewTarget()
		}
	}
	if h := u.config.Health; h != nil {
		for _, s := range h.Statuses {
			r, err := parseStatuses(s)
			if err != nil {
				return fmt.Errorf("health.statuses: %w", err)
			}
			u.statuses = append(u.statuses, r)
		}
	}
	config, needed := u.config.watch()
	if !needed {
		return nil
	}
	if old != nil && old.monitor != nil && old.pool == u.pool && u.sameTargets(old) &&
		reflect.DeepEqual(old.config.Health, u.config.Health) && reflect.DeepEqual(old.config.Outlier, u.config.Outlier) && old.config.SlowStart == u.config.SlowStart {
		u.monitor = old.monitor
		return nil
	}
	states := make([]*health.Target, len(u.targets))
	for i, t := range u.targets {
		states[i] = t.health
	}
	u.monitor = health.New(config, states, health.Events{
		Probed: func(i int, healthy bool, why string) {
			if healthy {
				o.Log.Info("target is healthy again", "upstream", u.name, "target", u.targets[i].name)
			} else {
				o.Log.Warn("target is unhealthy", "upstream", u.name, "target", u.targets[i].name, "cause", why)
			}
		},
		Ejected: func(i int, until time.Time) {
			o.Log.Warn("target ejected", "upstream", u.name, "target", u.targets[i].name, "until", until)
		},
	})
	return nil
}

// sameTargets reports whether old has the same places in the same order.
func (u *upstream) sameTargets(old *upstream) bool {
	if len(u.targets) != len(old.targets) {
		return false
	}
	for i, t := range u.targets {
		if o := old.targets[i]; t.url() != o.url() || t.name != o.name {
			return false
		}
	}
	return true
}

// adopt makes the monitor of u the one that counts. Of an upstream that was
// there before, targets that were not start slowly.
func (u *upstream) adopt(old *upstream) {
	if u.monitor == nil || old != nil && old.monitor == u.monitor {
		return
	}
	var rising []*health.Target
	if old != nil {
		there := map[*health.Target]bool{}
		for _, t := range old.targets {
			there[t.health] = true
		}
		for _, t := range u.targets {
			if !there[t.health] {
				rising = append(rising, t.health)
			}
		}
	}
	u.monitor.Adopt(rising...)
}

// adoptUpstreams makes the monitors of t ready, before it is used.
func adoptUpstreams(t, old *table) {
	for name, u := range t.upstreams {
		if old == nil {
			u.adopt(nil)
		} else {
			u.adopt(old.upstreams[name])
		}
	}
}

// watchUpstreams starts the probes of t and ends those of old that t does not
// go on with. Either may be nil.
func watchUpstreams(t, old *table) {
	kept := map[*health.Monitor]bool{}
	if t != nil {
		for name, u := range t.upstreams {
			if u.monitor == nil {
				continue
			}
			kept[u.monitor] = true
			if old == nil || old.upstreams[name] == nil || old.upstreams[name].monitor != u.monitor {
				u.monitor.Start(u.probe)
			}
		}
	}
	if old != nil {
		for _, u := range old.upstreams {
			if u.monitor != nil && !kept[u.monitor] {
				u.monitor.Stop()
			}
		}
	}
}

// probe asks target i for its health.
func (u *upstream) probe(ctx context.Context, i int) error {
	t, c := u.targets[i], u.config.Health
	escaped := t.basePath + c.Path
	decoded, err := url.PathUnescape(escaped)
	if err != nil {
		return err
	}
	req := (&http.Request{
		Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		URL:    &url.URL{Scheme: t.scheme, Host: t.host, Path: decoded, RawPath: escaped},
		Header: http.Header{"User-Agent": {"landline-health"}, "Accept": {"*/*"}},
	}).WithContext(ctx)
	res, err := u.pool.probes.RoundTrip(req)
	if err != nil {
		return err
	}
	discard(res.Body)
	for _, s := range u.statuses {
		if res.StatusCode >= s.from && res.StatusCode <= s.to {
			return nil
		}
	}
	return fmt.Errorf("status %d", res.StatusCode)
}

package config

import (
	"regexp"
	"strconv"
)

// path is a place in the configuration. nil is the file as a whole.
type path struct {
	parent *path
	key    string
	index  int // -1 for a key
	level  int // steps from the top
	text   string
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func (p *path) child(key string) *path {
	return &path{parent: p, key: key, index: -1, level: p.depth() + 1}
}

func (p *path) item(i int) *path { return &path{parent: p, index: i, level: p.depth() + 1} }

func (p *path) depth() int {
	if p == nil {
		return 0
	}
	return p.level
}

// String writes p as features.flight-status.routes[0].match.
func (p *path) String() string {
	if p == nil {
		return ""
	}
	if p.text != "" {
		return p.text
	}
	above := p.parent.String()
	switch {
	case p.index >= 0:
		p.text = above + "[" + strconv.Itoa(p.index) + "]"
	case above == "":
		p.text = quoteKey(p.key)
	default:
		p.text = above + "." + quoteKey(p.key)
	}
	return p.text
}

func quoteKey(key string) string {
	if bareKey.MatchString(key) {
		return key
	}
	return strconv.Quote(clip(key, 120))
}

// clip shortens s to at most n characters.
func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

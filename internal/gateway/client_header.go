package gateway

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dunglas/httpsfv"

	"landline/internal/module"
	"landline/internal/problem"
)

// maxClientHeader bounds Landline-Client, in bytes.
const maxClientHeader = 1 << 10

// clientText are the members of Landline-Client that hold text, with the most
// bytes that each may have.
var clientText = []struct {
	key   string
	most  int
	field func(*module.Client) *string
}{
	{"app", 155, func(c *module.Client) *string { return &c.App }}, // Apple's limit of a bundle id
	{"version", 40, func(c *module.Client) *string { return &c.Version }},
	{"platform", 20, func(c *module.Client) *string { return &c.Platform }},
	{"os", 40, func(c *module.Client) *string { return &c.OS }},
	{"device", 80, func(c *module.Client) *string { return &c.Device }},
	{"locale", 35, func(c *module.Client) *string { return &c.Locale }}, // RFC 5646 §4.4.1
}

// parseClient reads the lines of a Landline-Client header: an RFC 9651
// dictionary of Strings or Tokens, and build as an Integer. Members that it
// does not know, and parameters, are ignored, so that newer apps can say more.
func parseClient(lines []string) (*module.Client, error) {
	size := 0
	for _, l := range lines {
		size += len(l) + 2
	}
	if size > maxClientHeader+2 {
		return nil, problem.New(problem.ClientHeaderInvalid, "Landline-Client is longer than %d bytes", maxClientHeader)
	}
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return nil, problem.New(problem.ClientHeaderInvalid, "Landline-Client is not a dictionary of RFC 9651").Wrap(err)
	}
	var c module.Client
	for _, t := range clientText {
		member, ok := dict.Get(t.key)
		if !ok {
			continue
		}
		text, err := textOf(member)
		if err == nil && len(text) > t.most {
			err = fmt.Errorf("must have at most %d characters", t.most)
		}
		if err != nil {
			return nil, problem.New(problem.ClientHeaderInvalid, "Landline-Client: %s %s", t.key, err)
		}
		*t.field(&c) = text
	}
	if member, ok := dict.Get("build"); ok {
		item, _ := member.(httpsfv.Item)
		build, ok := item.Value.(int64)
		if !ok || build < 0 {
			return nil, problem.New(problem.ClientHeaderInvalid, "Landline-Client: build must be an integer that is not negative, for example build=1042")
		}
		c.Build = build
	}
	return &c, nil
}

func textOf(member httpsfv.Member) (string, error) {
	item, ok := member.(httpsfv.Item)
	if !ok {
		return "", errors.New("must be one value, not a list")
	}
	var text string
	switch v := item.Value.(type) {
	case string:
		text = v
	case httpsfv.Token:
		text = string(v)
	default:
		return "", errors.New(`must be a string in double quotes`)
	}
	if strings.TrimSpace(text) == "" {
		return "", errors.New("must not be empty; leave it out instead")
	}
	return text, nil
}

// maxParsedClients is how many Landline-Client headers a clientCache holds at
// most, in two generations of half as many: about 2 MB of common headers, 20 MB
// of the longest.
const maxParsedClients = 16 << 10

// clientCache remembers headers that were valid: an installation sends the
// same one with every request. A hit takes no lock.
type clientCache struct {
	half   int64
	mu     sync.Mutex
	recent atomic.Pointer[sync.Map] // header → *module.Client
	older  atomic.Pointer[sync.Map]
	count  atomic.Int64 // in recent
}

func newClientCache(most int) *clientCache {
	c := &clientCache{half: int64(most / 2)}
	c.recent.Store(&sync.Map{})
	c.older.Store(&sync.Map{})
	return c
}

// parse is parseClient with a memory. The result is shared: it must not be changed.
func (c *clientCache) parse(lines []string) (*module.Client, error) {
	if len(lines) != 1 {
		return parseClient(lines)
	}
	if v, ok := c.recent.Load().Load(lines[0]); ok {
		return v.(*module.Client), nil
	}
	v, ok := c.older.Load().Load(lines[0])
	if !ok {
		client, err := parseClient(lines)
		if err != nil {
			return nil, err // not remembered: a fault is rare, and nonsense is boundless
		}
		v = client
	}
	c.remember(strings.Clone(lines[0]), v.(*module.Client))
	return v.(*module.Client), nil
}

func (c *clientCache) remember(header string, client *module.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	recent := c.recent.Load()
	if _, there := recent.LoadOrStore(header, client); there {
		return
	}
	if c.count.Add(1) >= c.half {
		c.older.Store(recent)
		c.recent.Store(&sync.Map{})
		c.count.Store(0)
	}
}

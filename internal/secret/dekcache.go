package secret

import (
	"container/list"
	"sync"
	"time"

	"landline/internal/clock"
)

// DataKeyTTL is how long a node may go on using a data key without looking
// whether it was shredded elsewhere.
const DataKeyTTL = 2 * time.Minute

const maxDataKeys = 10_000 // about 10 MB

// dataKeyCache holds the most recently used data keys.
type dataKeyCache struct {
	mu    sync.Mutex
	clk   clock.Clock
	drops uint64
	items map[string]*list.Element
	order *list.List // front = used last
	max   int
}

type cachedKey struct {
	subject string
	key     *dataKey
	until   time.Time
}

func (c *dataKeyCache) init(clk clock.Clock) {
	c.clk, c.items, c.order, c.max = clk, map[string]*list.Element{}, list.New(), maxDataKeys
}

func (c *dataKeyCache) get(subject string) *dataKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.items[subject]
	if e == nil {
		return nil
	}
	item := e.Value.(*cachedKey)
	if !c.clk.Now().Before(item.until) {
		c.remove(e)
		return nil
	}
	c.order.MoveToFront(e)
	return item.key
}

// epoch is read before SQL is, and given to put: a key that was dropped
// in between is not stored.
func (c *dataKeyCache) epoch() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drops
}

func (c *dataKeyCache) put(subject string, k *dataKey, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.drops || c.items[subject] != nil {
		return
	}
	c.items[subject] = c.order.PushFront(&cachedKey{subject, k, c.clk.Now().Add(DataKeyTTL)})
	for len(c.items) > c.max {
		c.remove(c.order.Back())
	}
}

func (c *dataKeyCache) drop(subject string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	if e := c.items[subject]; e != nil {
		c.remove(e)
	}
}

func (c *dataKeyCache) remove(e *list.Element) {
	c.order.Remove(e)
	delete(c.items, e.Value.(*cachedKey).subject)
}

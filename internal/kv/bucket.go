package kv

import (
	"context"
	_ "embed"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// MaxBuckets is the most buckets that one Take decides about.
const MaxBuckets = 16

// maxCapacity bounds Interval × Burst, so that instants fit the 53 bits of a Lua number.
const maxCapacity = 1 << 52 // microseconds: 142 years

// A Bucket is one allowance of Take: Burst requests at once, and one more with
// every Interval (the generic cell rate algorithm).
type Bucket struct {
	Key      string        // nothing else may be stored there
	Interval time.Duration // at least a microsecond; counted in whole ones, rounded up
	Burst    int           // at least 1
}

// interval is Interval in microseconds.
func (b Bucket) interval() int64 {
	return int64((b.Interval + time.Microsecond - 1) / time.Microsecond)
}

func checkBuckets(buckets []Bucket) error {
	if len(buckets) == 0 || len(buckets) > MaxBuckets {
		return fmt.Errorf("%w: %d buckets, it takes 1 to %d", ErrInvalid, len(buckets), MaxBuckets)
	}
	for i, b := range buckets {
		if err := checkKey(b.Key); err != nil {
			return err
		}
		if b.Interval < time.Microsecond || b.Burst < 1 || b.interval() > maxCapacity/int64(b.Burst) {
			return fmt.Errorf("%w: bucket %q: an interval of %v and a burst of %d", ErrInvalid, b.Key, b.Interval, b.Burst)
		}
		for _, other := range buckets[:i] {
			if other.Key == b.Key {
				return fmt.Errorf("%w: bucket %q is there twice", ErrInvalid, b.Key)
			}
		}
	}
	return nil
}

func (m *memory) Take(ctx context.Context, buckets []Bucket, ahead []time.Duration) (admitted bool, err error) {
	if err := checkBuckets(buckets); err != nil {
		return false, err
	}
	err = m.do(ctx, "take", func(at time.Time) error {
		now := at.UnixMicro()
		var full [MaxBuckets]int64
		var late [MaxBuckets]bool // only after the clock has jumped back
		admitted = true
		for i, b := range buckets {
			capacity := b.interval() * int64(b.Burst)
			full[i] = max(m.full(b.Key), now)
			late[i] = full[i] > now+capacity
			full[i] = min(full[i], now+capacity)
			admitted = admitted && full[i]+b.interval() <= now+capacity
		}
		for i, b := range buckets {
			if admitted {
				full[i] += b.interval()
			}
			if admitted || late[i] {
				m.put(b.Key, strconv.AppendInt(nil, full[i], 10), time.UnixMicro(full[i]), at)
			}
			ahead[i] = time.Duration(full[i]-now) * time.Microsecond
		}
		return nil
	})
	return admitted, err
}

// full reads when a bucket is whole again; one that is, or that is none, reads as long ago.
func (m *memory) full(key string) int64 {
	if e := m.entries[key]; e != nil {
		if at, err := strconv.ParseInt(string(e.value), 10, 64); err == nil {
			return at
		}
	}
	return math.MinInt64
}

//go:embed lua/take.lua
var takeLua string

var take = redis.NewScript(takeLua)

func (s *redisStore) Take(ctx context.Context, buckets []Bucket, ahead []time.Duration) (admitted bool, err error) {
	if err := checkBuckets(buckets); err != nil {
		return false, err
	}
	keys := make([]string, len(buckets))
	args := make([]any, 0, 2*len(buckets))
	for i, b := range buckets {
		keys[i] = s.prefix + b.Key
		args = append(args, b.interval(), b.interval()*int64(b.Burst))
	}
	err = s.do(ctx, "take", func(ctx context.Context) error {
		answer, err := take.Run(ctx, s.client, keys, args...).Int64Slice()
		if err != nil {
			return err
		}
		if len(answer) != len(buckets)+1 {
			return fmt.Errorf("the script answered %d numbers for %d buckets", len(answer), len(buckets))
		}
		admitted = answer[0] == 1
		for i, us := range answer[1:] {
			ahead[i] = time.Duration(us) * time.Microsecond
		}
		return nil
	})
	return admitted && err == nil, err
}

package password

import (
	"runtime"
	"time"

	"landline/internal/config"
)

// Config says what hashing costs and which passwords may be set.
type Config struct {
	Memory      config.Bytes    `yaml:"memory" doc:"Memory that one hash takes, 7MiB to 1GiB. With less, iterations must be more: 46MiB and 1, 19MiB and 2, 12MiB and 3, 9MiB and 4 or 7MiB and 5 are the least (OWASP)."`
	Iterations  int             `yaml:"iterations" doc:"Passes over the memory, 1 to 20. When memory, iterations or parallelism rise, passwords are hashed anew as people sign in."`
	Parallelism int             `yaml:"parallelism" doc:"Threads of one hash, 1 to 16."`
	Slots       int             `yaml:"slots" doc:"Hashes of a node at once, 1 to 256; 0 = half of the processors, at least 1. Hashing takes slots × memory at most."`
	Queue       int             `yaml:"queue" doc:"Requests that may wait for a slot, 0 to 10000; more are 503 overloaded at once."`
	Wait        config.Duration `yaml:"wait" doc:"How long a request waits for a slot before it is 503 overloaded, 100ms to 30s."`
	MinLength   int             `yaml:"min_length" doc:"Fewest characters, 8 to 64. NIST SP 800-63B-4 asks for 15 where the password is the only factor."`
	Breached    string          `yaml:"breached" doc:"File with SHA-1 hashes of passwords known from breaches, sorted, one a line as HASH:COUNT or as a prefix of at least 10 digits, relative to this file: what the Pwned Passwords downloader writes. It is searched on disk. Empty = only the list of common passwords that is built in." example:"pwned-passwords.txt"`
	MinCount    int             `yaml:"min_count" doc:"How often a password must have been seen in breaches to be refused, from 1."`
}

const maxLength = 1024 // bytes

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{Memory: 19 << 20, Iterations: 2, Parallelism: 1, Queue: 64, Wait: config.Duration(2 * time.Second), MinLength: 8, MinCount: 1}
}

// floor are the least costs, by OWASP's Password Storage Cheat Sheet: as many
// iterations are enough with as much memory, in KiB.
var floor = []struct{ memory, iterations uint32 }{{47104, 1}, {19456, 2}, {12288, 3}, {9216, 4}, {7168, 5}}

func (c *Config) aboveFloor() bool {
	for _, f := range floor {
		if uint32(c.Memory>>10) >= f.memory && uint32(c.Iterations) >= f.iterations { // #nosec G115 -- checked before
			return true
		}
	}
	return false
}

// Check reports what is out of range.
func (c *Config) Check(v *config.Validator) {
	between := func(key string, is, min, max int) bool {
		if is < min || is > max {
			v.At(key).Fault("the default suits most", "must be %d to %d, is %d", min, max, is)
			return false
		}
		return true
	}
	costs := between("iterations", c.Iterations, 1, 20)
	if c.Memory < 7<<20 || c.Memory > 1<<30 {
		v.At("memory").Fault("the default suits most", "must be 7MiB to 1GiB, is %s", c.Memory)
		costs = false
	}
	if costs && !c.aboveFloor() {
		v.At("memory").Fault("raise memory or iterations", "%s with %d iterations is less than is safe", c.Memory, c.Iterations)
	}
	between("parallelism", c.Parallelism, 1, 16)
	between("slots", c.Slots, 0, 256)
	between("queue", c.Queue, 0, 10_000)
	between("min_length", c.MinLength, 8, 64)
	between("min_count", c.MinCount, 1, 1<<31-1)
	if c.Wait.D() < 100*time.Millisecond || c.Wait.D() > 30*time.Second {
		v.At("wait").Fault("the default suits most", "must be 100ms to 30s, is %s", c.Wait)
	}
	if c.Breached != "" {
		c.Breached = v.At("breached").Beside(c.Breached)
		list, err := OpenList(c.Breached, c.MinCount)
		if err != nil {
			v.At("breached").Fault("write the file of the Pwned Passwords downloader", "%s", err)
			return
		}
		if err := list.Close(); err != nil {
			v.At("breached").Fault("", "%s", err)
		}
	}
}

func (c *Config) slots() int {
	if c.Slots > 0 {
		return c.Slots
	}
	return max(1, runtime.GOMAXPROCS(0)/2)
}

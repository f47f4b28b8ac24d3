package cache

import "sync"

// Flights lets one of many requests for the same answer ask the upstream while
// the others wait for what it brings (collapsed forwarding, RFC 9111 §4).
type Flights struct {
	mu    sync.Mutex
	going map[string]*Flight
}

// Flight is one question to the upstream.
type Flight struct {
	all     *Flights
	key     string
	done    chan struct{}
	waiting int
	ended   bool
	result  Result
}

// Result is what the leader brought to those who wait.
type Result struct {
	Entry *Entry // they look whether they may have it
	Err   error  // the upstream failed, and would have failed them as well
	Stock bool   // Entry is a stock answer: they may have it, whatever its lifetime
	Cause error  // what it stands in for
} // the zero Result: each goes its own way

// Join returns the flight of the key, and whether the caller leads it. A
// leader must call End, whatever happens.
func (f *Flights) Join(key string) (flight *Flight, leader bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if flight := f.going[key]; flight != nil {
		flight.waiting++
		return flight, false
	}
	return f.lead(key), true
}

// Lead returns a new flight, or nil if there is one: for who does not need the result.
func (f *Flights) Lead(key string) *Flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.going[key] != nil {
		return nil
	}
	return f.lead(key)
}

func (f *Flights) lead(key string) *Flight {
	if f.going == nil {
		f.going = map[string]*Flight{}
	}
	flight := &Flight{all: f, key: key, done: make(chan struct{})}
	f.going[key] = flight
	return flight
}

// End lets those go who wait; the first End counts. It returns how many they were.
func (f *Flight) End(r Result) int {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	if f.ended {
		return 0
	}
	f.ended, f.result = true, r
	delete(f.all.going, f.key)
	close(f.done)
	return f.waiting
}

// Done is closed when the flight has ended; then Result may be called.
func (f *Flight) Done() <-chan struct{} { return f.done }

// Result is what End was given.
func (f *Flight) Result() Result { return f.result }

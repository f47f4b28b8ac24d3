package gateway

import "hash/maphash"

// edges is a hash table with open addressing: from a node and a fixed segment to
// the next node. It holds no pointers but those of long texts.
type edges struct {
	slots []edge // a power of two, at most half of them taken
	taken int
	long  []string // texts that do not fit
	seed  maphash.Seed
}

// edge is half a cache line.
type edge struct {
	from, to uint32 // nodes; to = 0: an empty slot
	size     uint8  // of text; isLong: from and text are compared in edges.long
	text     [23]byte
}

// isLong is the size of an edge whose text is in edges.long, at the place that the
// first four bytes of text say.
const isLong = 255

// find returns the node behind text at a node, 0 if there is none.
func (e *edges) find(from uint32, text string) uint32 {
	if len(e.slots) == 0 {
		return 0
	}
	mask := len(e.slots) - 1
	for i := e.place(from, text); ; i++ {
		s := &e.slots[i&mask]
		if s.to == 0 || s.from == from && e.is(s, text) {
			return s.to
		}
	}
}

// add enters an edge that is not there.
func (e *edges) add(from uint32, text string, to uint32) {
	if 2*(e.taken+1) > len(e.slots) {
		e.double()
	}
	s := edge{from: from, to: to}
	if len(text) <= len(s.text) {
		s.size = uint8(copy(s.text[:], text)) // #nosec G115 -- at most 23
	} else {
		n := len(e.long)
		s.size, s.text[0], s.text[1], s.text[2], s.text[3] = isLong, byte(n), byte(n>>8), byte(n>>16), byte(n>>24) // #nosec G115 -- the number, byte by byte
		e.long = append(e.long, text)
	}
	e.put(&s, text)
	e.taken++
}

func (e *edges) put(s *edge, text string) {
	mask := len(e.slots) - 1
	i := e.place(s.from, text)
	for e.slots[i&mask].to != 0 {
		i++
	}
	e.slots[i&mask] = *s
}

func (e *edges) double() {
	old := e.slots
	if old == nil {
		e.seed = maphash.MakeSeed()
	}
	e.slots = make([]edge, max(16, 2*len(old)))
	for i := range old {
		if s := &old[i]; s.to != 0 {
			e.put(s, e.textOf(s))
		}
	}
}

// place is where the search for an edge begins.
func (e *edges) place(from uint32, text string) int {
	const odd = 0x9E3779B97F4A7C15                                     // spreads numbers that follow each other
	return int((maphash.String(e.seed, text) ^ uint64(from)*odd) >> 1) // #nosec G115 -- 63 bits
}

func (e *edges) is(s *edge, text string) bool {
	if s.size == isLong {
		return e.textOf(s) == text
	}
	return string(s.text[:s.size]) == text
}

func (e *edges) textOf(s *edge) string {
	if s.size == isLong {
		return e.long[int(s.text[0])|int(s.text[1])<<8|int(s.text[2])<<16|int(s.text[3])<<24]
	}
	return string(s.text[:s.size])
}

package identity

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// A form is read to its end however it comes, no further than it may be long, and
// never taken for whole when its client was cut off.
func TestFormIsReadToItsEnd(t *testing.T) {
	for _, size := range []int{0, 1, 7, 8, 9, 20, 21, 40} {
		text := strings.Repeat("x", size)
		for name, r := range map[string]io.Reader{
			"at once": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text)), "with its end": iotest.DataErrReader(strings.NewReader(text)),
		} {
			got, err := readUpTo(r, make([]byte, 8), 21)
			if want := text[:min(size, 21)]; err != nil || string(got) != want {
				t.Errorf("%d bytes %s: %q, %v", size, name, got, err)
			}
		}
		for _, fault := range []error{io.ErrUnexpectedEOF, errors.New("reset")} {
			r := io.MultiReader(bytes.NewReader([]byte(text)), iotest.ErrReader(fault))
			if _, err := readUpTo(r, make([]byte, 8), 100); !errors.Is(err, fault) {
				t.Errorf("%d bytes, then %v: %v", size, fault, err)
			}
		}
	}
}

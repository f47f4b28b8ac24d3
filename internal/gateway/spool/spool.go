// Package spool keeps request bodies that must be known whole before anything
// is done with them: short ones in memory, long ones in a file.
//
// A file has no name from the moment it is open: what a crash leaves behind is
// nothing. All files of a Disk together are bounded.
package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

// ErrFull says that the files would take more of the disk than they may.
var ErrFull = errors.New("spool: the files of request bodies take as much of the disk as they may")

// ErrTooLarge says that a body is longer than it may be.
var ErrTooLarge = errors.New("spool: the body is too large")

// ErrDisk says that a file could not be made or written.
var ErrDisk = errors.New("spool: the file of a request body failed")

// Disk is where files are made. It is safe for concurrent use.
type Disk struct {
	dir  string
	most int64
	used atomic.Int64
}

// NewDisk returns a Disk with files in dir, "" for the system's directory, that
// takes most bytes at most.
func NewDisk(dir string, most int64) *Disk { return &Disk{dir: dir, most: most} }

// Used is how many bytes the files have.
func (d *Disk) Used() int64 { return d.used.Load() }

// Body is a body that was read to its end. Close it when nobody reads it any more.
type Body struct {
	disk *Disk
	head []byte // in memory
	file *os.File
	size int64 // of the file
}

// Read takes in a body of at most most bytes and shows all of it to seen. Up to
// memory bytes stay in memory; said is the announced length, -1 when there is none.
func (d *Disk) Read(r io.Reader, said, memory, most int64, seen io.Writer) (b *Body, err error) {
	if said > most {
		return nil, ErrTooLarge
	}
	b, memory = &Body{disk: d}, min(memory, most)
	if said < 0 || said > memory {
		b.head, err = io.ReadAll(io.LimitReader(r, memory))
	} else {
		b.head = make([]byte, said)
		var n int
		n, err = io.ReadFull(r, b.head)
		if b.head = b.head[:n]; n == 0 && err == io.EOF {
			err = io.ErrUnexpectedEOF // announced and not there
		}
	}
	if err == nil {
		_, err = seen.Write(b.head)
	}
	if err != nil {
		return nil, err
	}
	if err := b.rest(r, most, seen); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// rest reads to the end, which also frees the connection's deadline.
func (b *Body) rest(r io.Reader, most int64, seen io.Writer) error {
	buf := make([]byte, 64) // most bodies are at their end
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if int64(len(b.head))+b.size+int64(n) > most {
				return ErrTooLarge
			}
			if err := b.spill(buf[:n], seen); err != nil {
				return err
			}
			if len(buf) < 64<<10 {
				buf = make([]byte, 64<<10)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (b *Body) spill(p []byte, seen io.Writer) error {
	if b.file == nil {
		f, err := os.CreateTemp(b.disk.dir, ".body-*")
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDisk, err)
		}
		b.file = f
		if err := os.Remove(f.Name()); err != nil {
			return fmt.Errorf("%w: %w", ErrDisk, err)
		}
	}
	if b.disk.used.Add(int64(len(p))) > b.disk.most {
		b.disk.used.Add(-int64(len(p)))
		return ErrFull
	}
	b.size += int64(len(p))
	if _, err := b.file.Write(p); err != nil {
		return fmt.Errorf("%w: %w", ErrDisk, err)
	}
	if _, err := seen.Write(p); err != nil {
		return err
	}
	return nil
}

// Size is the length of the body.
func (b *Body) Size() int64 { return int64(len(b.head)) + b.size }

// Reader returns the body from its beginning; any number may be read at once.
func (b *Body) Reader() io.Reader {
	head := bytes.NewReader(b.head)
	if b.file == nil {
		return head
	}
	return io.MultiReader(head, io.NewSectionReader(b.file, 0, b.size))
}

// Close gives the file back.
func (b *Body) Close() error {
	if b.file == nil {
		return nil
	}
	b.disk.used.Add(-b.size)
	b.size = 0
	if err := b.file.Close(); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

package app

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// untouch gives the pages of b back to the system; they read as zeroes.
// b must be zero and on whole pages.
func untouch(b []byte) error {
	return syscall.Madvise(b, syscall.MADV_DONTNEED)
}

// dropBinary takes the pages of the executable out of the process (madvise(2),
// MADV_DONTNEED): a page that is used again is found in the page cache. Only
// mappings are dropped that nobody may write and none of whose pages was
// changed, by a relocation or a debugger, for example.
func dropBinary() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer maps.Close()
	list, err := cleanMappings(maps, exe)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range list {
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, m.start, m.end-m.start, syscall.MADV_DONTNEED); errno != 0 {
			errs = append(errs, fmt.Errorf("madvise: %w", errno))
		}
	}
	return errors.Join(errs...)
}

type mapping struct{ start, end uintptr }

// cleanMappings reads smaps (proc(5)) and returns the private mappings of a file
// that cannot be written and have no page of their own.
func cleanMappings(smaps io.Reader, file string) ([]mapping, error) {
	var list []mapping
	var current *mapping
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		line := lines.Text()
		if key, value, found := strings.Cut(line, ":"); found && strings.IndexByte(key, ' ') < 0 {
			if key == "Anonymous" && current != nil && strings.TrimSpace(value) == "0 kB" {
				list = append(list, *current)
			}
			continue
		}
		current = nil
		fields := strings.Fields(line) // start-end permissions offset device inode path
		if len(fields) < 6 || !strings.HasSuffix(line, " "+file) || fields[1] != "r-xp" && fields[1] != "r--p" {
			continue
		}
		from, to, _ := strings.Cut(fields[0], "-")
		start, err := strconv.ParseUint(from, 16, strconv.IntSize)
		if err != nil {
			return nil, fmt.Errorf("/proc/self/smaps: %w", err)
		}
		end, err := strconv.ParseUint(to, 16, strconv.IntSize)
		if err != nil {
			return nil, fmt.Errorf("/proc/self/smaps: %w", err)
		}
		current = &mapping{uintptr(start), uintptr(end)}
	}
	return list, lines.Err()
}

package changelog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// htime is the list of journals that the brick keeps. It misses some that exist, so it is used only for what nothing else tells: that
// nothing was recorded in a stretch of time, and that no journal was kept in another.
type htime struct {
	dir   string
	names []int64 // times of the lists that there were at the last look
	path  string  // of the newest list
	off   int64   // up to where it was read
	rest  []byte  // the incomplete entry at its end
	until int64   // time of the last entry
	last  string  // the last entry
	gap   string  // found when it was opened
}

// tailOfList is how much of a list is read at the start, in bytes: some weeks.
const tailOfList = 4 << 20

// openHTime opens the newest list. after is the time from which all changes are wanted; 0: whatever there is.
func openHTime(dir string, after int64) (*htime, error) {
	h := &htime{dir: filepath.Join(dir, "htime")}
	names, err := h.list()
	if err != nil {
		return nil, err
	}
	h.names = names
	if len(names) == 0 {
		if after > 0 {
			h.gap = "the brick keeps no journals"
		}
		return h, nil
	}
	newest := names[len(names)-1]
	if after > 0 && newest > after {
		h.gap = fmt.Sprintf("no journal was kept for some time between %d and %d", after, newest)
	}
	h.begin(newest)
	if info, err := os.Stat(h.path); err == nil {
		h.off = max(0, info.Size()-tailOfList) // what is cut off at the beginning has no time that can be read, or is older than needed
	}
	if _, _, err := h.advance(); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *htime) begin(name int64) {
	h.path, h.off, h.rest, h.last = filepath.Join(h.dir, fmt.Sprintf("HTIME.%d", name)), 0, nil, ""
}

func (h *htime) list() ([]int64, error) {
	entries, err := os.ReadDir(h.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the journals' index: %w", err)
	}
	var names []int64
	for _, e := range entries {
		if digits, ok := strings.CutPrefix(e.Name(), "HTIME."); ok {
			if at, err := strconv.ParseInt(digits, 10, 64); err == nil {
				names = append(names, at)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// advance reads what was added, and gives the time up to which the list reaches. gap says why something may not have been recorded.
func (h *htime) advance() (until int64, gap string, err error) {
	names, err := h.list()
	if err != nil {
		return h.until, "", err
	}
	if n := len(names); n > 0 && (len(h.names) == 0 || names[n-1] != h.names[len(h.names)-1]) {
		h.names = names
		h.begin(names[n-1])
		gap = "journals were switched off and on again"
	}
	if h.path == "" {
		return h.until, gap, nil
	}
	data, err := readFrom(h.path, h.off)
	if err != nil {
		return h.until, gap, fmt.Errorf("read the journals' index: %w", err)
	}
	h.off += int64(len(data))
	data = append(h.rest, data...)
	for {
		i := bytes.IndexByte(data, 0)
		if i < 0 {
			break
		}
		if twice := h.entry(string(data[:i])); twice && gap == "" {
			gap = "two journals of one second: the brick has kept the later only"
		}
		data = data[i+1:]
	}
	h.rest = bytes.Clone(data)
	return h.until, gap, nil
}

// entry takes one entry of the list, and says whether a journal is named that was named just before.
func (h *htime) entry(path string) (twice bool) {
	name := filepath.Base(path)
	digits := name[strings.LastIndexByte(name, '.')+1:]
	at, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return false
	}
	twice = strings.HasPrefix(name, "CHANGELOG.") && path == h.last
	h.last = path
	h.until = max(h.until, at)
	return twice
}

func readFrom(path string, off int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

package wire

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"georep/internal/change"
)

// delayed gives both ends of a connection over which everything takes a while, however much is under way.
func delayed(each time.Duration) (a, b net.Conn) {
	a, a2 := net.Pipe()
	b2, b := net.Pipe()
	type piece struct {
		due  time.Time
		data []byte
	}
	carry := func(from, to net.Conn) {
		under := make(chan piece, 1<<16)
		go func() {
			defer to.Close()
			for p := range under {
				time.Sleep(time.Until(p.due))
				if _, err := to.Write(p.data); err != nil {
					from.Close()
				}
			}
		}()
		defer close(under)
		for {
			buf := make([]byte, 64<<10)
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			under <- piece{time.Now().Add(each), buf[:n]}
		}
	}
	go carry(a2, b2)
	go carry(b2, a2)
	return a, b
}

// TestMustP7LongLink has a round trip of 100 ms. No part of the time may grow with a round trip for each file.
func TestMustP7LongLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := delayed(50 * time.Millisecond)
		m := newMemory()
		m.look = func(_ context.Context, _ Dir, entry func(Entry) error) error {
			for i := range 10_000 {
				e := Entry{Name: fmt.Sprint("some entry ", i)}
				e.Object.Kind = change.File
				if err := entry(e); err != nil {
					return err
				}
			}
			return nil
		}
		c := connectedOver(t, a, b, m, ClientOptions{}, ServerOptions{})
		within := func(what string, limit time.Duration, do func()) {
			start := time.Now()
			do()
			if took := time.Since(start); took > limit {
				t.Errorf("%s took %s, more than %s", what, took, limit)
			}
		}
		within("20,000 requests", 700*time.Millisecond, func() {
			var wg sync.WaitGroup
			for i := range 20_000 {
				wg.Add(1)
				if err := c.Do(t.Context(), fileRequest(change.Set, fmt.Sprint(i), 0), func(change.Result) { wg.Done() }); err != nil {
					t.Error(err)
				}
			}
			wg.Wait()
		})
		within("320 files of 100 KB", 1100*time.Millisecond, func() { writeMany(t, c, 320, 100_000) })
		within("one file of 16 MB", 600*time.Millisecond, func() { writeMany(t, c, 1, 16<<20) })
		within("a listing", 400*time.Millisecond, func() {
			if err := c.Look(t.Context(), Dir{}, func(Entry) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	})
}

func writeMany(t *testing.T, c *Client, files, size int) {
	var wg sync.WaitGroup
	var applied atomic.Int64
	for i := range files {
		wg.Go(func() {
			r := fileRequest(change.Make, fmt.Sprint("file ", i), int64(size))
			got, err := c.Write(t.Context(), r, endless{int64(size)}, WriteOptions{})
			if err == nil && got.Status == change.Applied {
				applied.Add(1)
			}
		})
	}
	wg.Wait()
	if applied.Load() != int64(files) {
		t.Errorf("%d of %d files were applied", applied.Load(), files)
	}
}

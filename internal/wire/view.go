package wire

import (
	"context"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"georep/internal/wire/wirepb"
)

// entriesTarget is how large a frame of entries grows before it is sent, in bytes.
const entriesTarget = 64 << 10

// view sends the listing of one directory, no further ahead of its reader than LookWindow.
type view struct {
	server *server
	id     uint32
	ctx    context.Context
	cancel context.CancelCauseFunc

	entries wirepb.Entries
	size    int

	mu      sync.Mutex
	room    int
	changed chan struct{}
}

// openLook starts the handler of a listing.
func (s *server) openLook(f frame) error {
	m := new(wirepb.Look)
	if err := decodeMessage(f.payload, m, "a look"); err != nil {
		return err
	}
	d := Dir{Path: string(m.Path)}
	err := parseID(&d.Sec, m.Sec)
	if err == nil {
		err = d.validate()
	}
	if err != nil {
		return protocolError("a look is not valid: %v", err)
	}
	v := &view{server: s, id: f.stream, room: LookWindow, changed: make(chan struct{}, 1)}
	v.ctx, v.cancel = context.WithCancelCause(s.ctx)
	s.mu.Lock()
	_, used := s.looks[f.stream]
	full := len(s.looks) >= MaxLooks
	if !used && !full {
		s.looks[f.stream] = v
	}
	s.mu.Unlock()
	if used || full {
		return protocolError("stream %d is open already, or %d others are", f.stream, MaxLooks)
	}
	s.tasks.Go(func() {
		defer v.cancel(nil)
		err := s.handler.Look(v.ctx, d, v.entry)
		if err == nil {
			err = v.flush()
		}
		s.mu.Lock()
		delete(s.looks, f.stream)
		s.mu.Unlock()
		s.sendMessage(frameAnswer, f.stream, answerMessage(err))
	})
	return nil
}

func (v *view) message(f frame) error {
	switch f.kind {
	case frameAbort:
		v.cancel(ErrAborted)
		return nil
	case frameCredit:
		n, err := creditOf(f.payload)
		if err != nil {
			return err
		}
		v.mu.Lock()
		defer v.mu.Unlock()
		if n > LookWindow || v.room+int(n) > LookWindow {
			return protocolError("a listing got too much credit")
		}
		v.room += int(n)
		select {
		case v.changed <- struct{}{}:
		default:
		}
		return nil
	}
	return protocolError("a frame of type %d in a listing", f.kind)
}

// entry adds one entry to the listing. Attributes that do not fit any message are left out, as if they had not been read.
func (v *view) entry(e Entry) error {
	if err := validateEntry(&e); err != nil {
		return err
	}
	m := entryMessage(&e)
	size := proto.Size(m)
	if size > MaxMessage/2 {
		e.Object.HasXattrs, e.Object.Xattrs = false, nil
		m = entryMessage(&e)
		size = proto.Size(m)
	}
	v.entries.Entries = append(v.entries.Entries, m)
	v.size += size
	if v.size < entriesTarget {
		return v.ctx.Err()
	}
	return v.flush()
}

// flush sends the entries that were collected, once the reader has room.
func (v *view) flush() error {
	if len(v.entries.Entries) == 0 {
		return nil
	}
	for {
		v.mu.Lock()
		ok := v.room > 0
		if ok {
			v.room--
		}
		v.mu.Unlock()
		if ok {
			break
		}
		select {
		case <-v.changed:
		case <-v.ctx.Done():
			return context.Cause(v.ctx)
		}
	}
	err := v.server.sendMessage(frameEntries, v.id, &v.entries)
	v.entries.Entries, v.size = v.entries.Entries[:0], 0
	return err
}

func cutSession(key string) (string, bool) { return strings.CutPrefix(key, optionSession) }

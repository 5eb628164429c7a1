package wire

import (
	"context"
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"

	"georep/internal/wire/wirepb"
)

// call waits for the answer to a commit, a bind or a ping. What arrives after its caller has gone is overlooked.
type call struct {
	want   frameType
	answer chan struct{}
	bound  BindResult
	failed error
}

func (w *call) message(f frame) (bool, error) {
	if f.kind != w.want {
		return false, protocolError("a frame of type %d answers a call", f.kind)
	}
	if f.kind == frameAnswer {
		var err error
		if w.bound, w.failed, err = parseAnswer(f.payload); err != nil {
			return false, err
		}
	}
	close(w.answer)
	return true, nil
}

// call sends a message and waits for its answer.
func (c *Client) call(ctx context.Context, kind, want frameType, m proto.Message) (BindResult, error) {
	payload, err := appendMessage(nil, m)
	if err != nil {
		return BindResult{}, err
	}
	if err := c.acquire(ctx, c.calls, 1); err != nil {
		return BindResult{}, err
	}
	w := &call{want: want, answer: make(chan struct{})}
	stream := c.open(w)
	if err := c.out.send(ctx, kind, stream, payload); err != nil {
		c.forget(stream)
		c.calls.Release(1)
		return BindResult{}, c.because(err)
	}
	// The agent is busy with the call until it has answered, however long its caller waits.
	c.spawn(func() {
		select {
		case <-w.answer:
		case <-c.ctx.Done():
		}
		c.calls.Release(1)
	})
	select {
	case <-w.answer:
		return w.bound, w.failed
	case <-ctx.Done():
		return BindResult{}, context.Cause(ctx)
	case <-c.ctx.Done():
		return BindResult{}, c.linkError()
	}
}

// Commit makes durable all that was answered before the call together with a mark for Bind, if that is not empty, and with purge removes what the agent kept only for the time of a
// comparison. It waits for the disk. An error is a *RemoteError or the link's.
func (c *Client) Commit(ctx context.Context, mark string, purge bool) error {
	if _, err := c.call(ctx, frameCommit, frameAnswer, &wirepb.Commit{Purge: purge, Mark: []byte(mark)}); err != nil {
		return fmt.Errorf("commit on the secondary: %w", err)
	}
	return nil
}

// Bind asks what the agent's root holds and, when it is empty or this session's (or adopt is set and it belongs to no other session),
// notes there that it is the session's.
func (c *Client) Bind(ctx context.Context, session string, adopt bool) (BindResult, error) {
	bound, err := c.call(ctx, frameBind, frameAnswer, &wirepb.Bind{Session: []byte(session), Adopt: adopt})
	if err != nil {
		return bound, fmt.Errorf("bind the secondary: %w", err)
	}
	return bound, nil
}

// Ping waits until the agent has answered an empty message.
func (c *Client) Ping(ctx context.Context) error {
	if _, err := c.call(ctx, framePing, framePong, &wirepb.Commit{}); err != nil {
		return fmt.Errorf("ping the secondary: %w", err)
	}
	return nil
}

// listing gets the entries of one directory.
type listing struct {
	frames chan []Entry // LookWindow of room, which the agent must not exceed
	failed error
}

func (w *listing) message(f frame) (bool, error) {
	switch f.kind {
	case frameEntries:
		entries, err := parseEntries(f.payload)
		if err != nil {
			return false, err
		}
		select {
		case w.frames <- entries:
			return false, nil
		default:
			return false, protocolError("a listing runs ahead of its reader")
		}
	case frameAnswer:
		var err error
		_, w.failed, err = parseAnswer(f.payload)
		close(w.frames)
		return true, err
	}
	return false, protocolError("a frame of type %d answers a look", f.kind)
}

// Look lists a directory: each is called for every entry, in the directory's own order, with extended attributes. each may
// take its time. An error of each ends the listing and is returned; otherwise an error is ErrStale, a *RemoteError or the link's.
func (c *Client) Look(ctx context.Context, d Dir, each func(Entry) error) error {
	if err := d.validate(); err != nil {
		return fmt.Errorf("look at a directory: %w", err)
	}
	payload, err := appendMessage(nil, &wirepb.Look{Path: []byte(d.Path), Sec: idBytes(&d.Sec)})
	if err != nil {
		return err
	}
	if err := c.acquire(ctx, c.looks, 1); err != nil {
		return err
	}
	w := &listing{frames: make(chan []Entry, LookWindow)}
	stream := c.open(w)
	if err := c.out.send(ctx, frameLook, stream, payload); err != nil {
		c.forget(stream)
		c.looks.Release(1)
		return c.because(err)
	}
	for {
		select {
		case entries, more := <-w.frames:
			if !more {
				c.looks.Release(1)
				return w.failed
			}
			if err = eachEntry(entries, each); err == nil {
				err = c.out.credit(ctx, stream, 1)
			}
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-c.ctx.Done():
			return c.linkError()
		}
		if err != nil {
			c.leave(stream, w)
			return err
		}
	}
}

func eachEntry(entries []Entry, each func(Entry) error) error {
	for _, e := range entries {
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

// leave tells the agent to end a listing, and overlooks what comes until it has.
func (c *Client) leave(stream uint32, w *listing) {
	c.out.sendNow(frameAbort, stream, nil)
	c.spawn(func() {
		defer c.looks.Release(1)
		for {
			select {
			case _, more := <-w.frames:
				if !more {
					return
				}
				if c.out.credit(c.ctx, stream, 1) != nil {
					return
				}
			case <-c.ctx.Done():
				return
			}
		}
	})
}

func creditOf(payload []byte) (uint32, error) {
	if len(payload) != 4 {
		return 0, protocolError("a credit has %d bytes", len(payload))
	}
	return binary.BigEndian.Uint32(payload), nil
}

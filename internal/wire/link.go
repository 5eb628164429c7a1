package wire

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// link is what both ends have in common: a reader, a writer, signs of life, and one end for all.
type link struct {
	stream  io.ReadWriteCloser
	reader  *frameReader
	out     *out
	ctx     context.Context // ends with the link; its cause is why
	cancel  context.CancelCauseFunc
	group   sync.WaitGroup
	written chan struct{} // closed when the writer has ended
	silence atomic.Int32  // heartbeats since something was read
	patient int32         // how many of them may be missed; 0: silenceLimit
}

func (l *link) fail(err error) { l.cancel(err) }

// start runs the writer, the heart and the reader, for whose messages it calls handle. When one of them ends the link ends:
// the stream is closed, which makes the others end.
func (l *link) start(handle func(frame) error) {
	l.written = make(chan struct{})
	l.group.Go(func() {
		<-l.ctx.Done()
		l.stream.Close()
	})
	l.group.Go(func() {
		defer close(l.written)
		if err := l.out.run(); err != nil {
			l.fail(err)
		}
	})
	l.group.Go(func() { l.fail(l.beat()) })
	l.group.Go(func() {
		defer l.reader.close()
		l.read(handle)
	})
}

// breach ends the link because the other side broke the protocol, and tells it so if it listens, for a moment.
func (l *link) breach(err error) {
	l.out.sendNow(frameFatal, 0, []byte(clean(err.Error(), maxDetail)))
	l.out.finish()
	timer := time.NewTimer(farewellWait)
	defer timer.Stop()
	select {
	case <-l.written:
	case <-timer.C:
	case <-l.ctx.Done():
	}
	l.fail(err)
}

// beat sends heartbeats and counts those of the peer that are missed. It counts rather than measure time: a process that
// was stopped for hours and goes on must listen before it judges.
func (l *link) beat() error {
	ticker := time.NewTicker(heartbeatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		}
		if l.silence.Add(1) > l.patience() {
			return ErrSilent
		}
		l.out.heartbeat()
	}
}

// patience is how many heartbeats of the other side may be missed.
func (l *link) patience() int32 {
	if l.patient == 0 {
		return silenceLimit
	}
	return l.patient
}

// read hands every message to handle until an error, io.EOF included, which ends the link.
func (l *link) read(handle func(frame) error) {
	for {
		f, err := l.reader.next()
		if err == nil {
			switch {
			case f.kind == frameFatal:
				l.fail(protocolError("the other side closed the connection: %s", clean(string(f.payload), 1000)))
				return
			case f.kind == frameHeartbeat || f.kind >= frameOptional:
			default:
				err = handle(f)
			}
		}
		if errors.Is(err, ErrProtocol) {
			l.breach(err)
			return
		}
		if err != nil {
			l.fail(err)
			return
		}
	}
}

// listener counts a reader's bytes as signs of life.
type listener struct {
	io.Reader
	link *link
}

func (r listener) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.link.silence.Store(0)
	}
	return n, err
}

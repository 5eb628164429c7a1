package wire

import (
	"encoding/binary"
	"io"
	"sync/atomic"
)

// frameType says what a frame holds. Types from 0x80 on may be overlooked by who does not know them.
type frameType uint8

const (
	frameHeartbeat frameType = 1  // both ways: nothing, but the sender is alive
	framePing      frameType = 2  // to the agent: is to be answered by framePong
	framePong      frameType = 3  // to the worker
	frameFatal     frameType = 4  // both ways: text that says why the sender closes
	framePack      frameType = 5  // both ways: whole frames, packed together for compression
	frameRequest   frameType = 16 // to the agent: wirepb.Request
	frameResult    frameType = 17 // to the worker: wirepb.Result
	frameWrite     frameType = 18 // to the agent: wirepb.Request with Transfer; opens a content stream
	frameBasis     frameType = 19 // to the worker: wirepb.Basis
	frameSignature frameType = 20 // to the worker: signature bytes
	frameContent   frameType = 21 // to the agent: content steps, see ops.go
	frameFinish    frameType = 22 // to the agent: wirepb.Finish
	frameAbort     frameType = 23 // to the agent: the stream is given up
	frameCredit    frameType = 24 // both ways: u32, so much more may be sent on the stream
	frameLook      frameType = 25 // to the agent: wirepb.Look
	frameEntries   frameType = 26 // to the worker: wirepb.Entries
	frameCommit    frameType = 27 // to the agent: wirepb.Commit
	frameBind      frameType = 28 // to the agent: wirepb.Bind
	frameAnswer    frameType = 29 // to the worker: wirepb.Answer; ends a look, a commit, a bind
	frameOptional  frameType = 0x80
)

const (
	flagZstd uint8 = 1 << 0 // the payload is compressed; only of framePack
	flagMore uint8 = 1 << 1 // the message goes on in the next frame, which has the same type and stream

	headerSize = 10
)

// frame is one frame, or one message that was put together from several. The payload belongs to the reader.
type frame struct {
	kind    frameType
	flags   uint8
	stream  uint32
	payload []byte
}

// appendFrame appends a message to buf, in as many frames as it takes.
func appendFrame(buf []byte, kind frameType, stream uint32, payload []byte) []byte {
	for len(payload) > MaxFrame {
		buf = appendHeader(buf, MaxFrame, kind, flagMore, stream)
		buf = append(buf, payload[:MaxFrame]...)
		payload = payload[MaxFrame:]
	}
	buf = appendHeader(buf, len(payload), kind, 0, stream)
	return append(buf, payload...)
}

func appendHeader(buf []byte, size int, kind frameType, flags uint8, stream uint32) []byte {
	buf = binary.BigEndian.AppendUint32(buf, uint32(size))
	buf = append(buf, byte(kind), flags)
	return binary.BigEndian.AppendUint32(buf, stream)
}

// parseHeader reads and checks a frame's header. It needs headerSize bytes.
func parseHeader(b []byte) (frame, int, error) {
	size := binary.BigEndian.Uint32(b)
	f := frame{kind: frameType(b[4]), flags: b[5], stream: binary.BigEndian.Uint32(b[6:])}
	if size > MaxFrame {
		return f, 0, protocolError("a frame of %d bytes is longer than %d", size, MaxFrame)
	}
	if f.flags&^(flagZstd|flagMore) != 0 {
		return f, 0, protocolError("a frame of type %d has unknown flags %#x", f.kind, f.flags)
	}
	if f.flags&flagZstd != 0 && f.kind != framePack || f.flags&flagMore != 0 && f.kind == framePack {
		return f, 0, protocolError("a frame of type %d has flags %#x", f.kind, f.flags)
	}
	return f, int(size), nil
}

// frameReader reads frames from a stream. It holds one buffer of some 256 KiB, one for packed frames when there are any, and
// one for messages of several frames. It is used by one goroutine.
type frameReader struct {
	source io.Reader
	buf    []byte // what was read: buf[start:end] is not yet used
	start  int
	end    int

	packed  []byte // rest of a packed frame
	unpack  *unpacker
	message []byte // of several frames
	read    atomic.Int64
}

// newFrameReader reads from source, after the bytes that were read already.
func newFrameReader(source io.Reader, already []byte) *frameReader {
	r := &frameReader{source: source, buf: make([]byte, max(256<<10, len(already)))}
	r.end = copy(r.buf, already)
	return r
}

func (r *frameReader) close() {
	if r.unpack != nil {
		r.unpack.close()
	}
}

// next gives the next message. Its payload is valid until the next call. io.EOF means that the stream ended between frames.
func (r *frameReader) next() (frame, error) {
	f, err := r.single()
	if err != nil || f.flags&flagMore == 0 {
		return f, err
	}
	r.message = append(r.message[:0], f.payload...)
	for f.flags&flagMore != 0 {
		g, err := r.single()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return g, err
		}
		if g.kind != f.kind || g.stream != f.stream {
			return g, protocolError("a message of type %d is cut by a frame of type %d", f.kind, g.kind)
		}
		if len(r.message)+len(g.payload) > MaxMessage {
			return g, protocolError("a message of type %d is longer than %d bytes", f.kind, MaxMessage)
		}
		r.message = append(r.message, g.payload...)
		f = g
	}
	f.payload = r.message
	if cap(r.message) > MaxFrame {
		r.message = nil // rare: do not hold on to it
	}
	return f, nil
}

// single gives the next single frame, unpacked.
func (r *frameReader) single() (frame, error) {
	for {
		if len(r.packed) > 0 {
			return r.fromPack()
		}
		f, err := r.raw()
		if err != nil || f.kind != framePack {
			return f, err
		}
		if err := r.open(f); err != nil {
			return f, err
		}
	}
}

// open makes the frames in a packed one the next ones.
func (r *frameReader) open(f frame) error {
	if f.flags&flagZstd == 0 {
		return protocolError("a packed frame is not compressed")
	}
	var err error
	if r.unpack == nil {
		if r.unpack, err = newUnpacker(); err != nil {
			return err
		}
	}
	r.packed, err = r.unpack.unpack(f.payload)
	return err
}

func (r *frameReader) fromPack() (frame, error) {
	if len(r.packed) < headerSize {
		return frame{}, protocolError("a packed frame ends within a header")
	}
	f, size, err := parseHeader(r.packed)
	if err != nil {
		return f, err
	}
	if f.kind == framePack || len(r.packed)-headerSize < size {
		return f, protocolError("a packed frame holds a frame of type %d and %d bytes that does not belong there", f.kind, size)
	}
	f.payload = r.packed[headerSize : headerSize+size : headerSize+size]
	r.packed = r.packed[headerSize+size:]
	return f, nil
}

// raw gives the next frame as it came.
func (r *frameReader) raw() (frame, error) {
	if err := r.fill(headerSize); err != nil {
		return frame{}, err
	}
	f, size, err := parseHeader(r.buf[r.start:r.end])
	if err != nil {
		return f, err
	}
	if err := r.fill(headerSize + size); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return f, err
	}
	from := r.start + headerSize
	f.payload = r.buf[from : from+size : from+size]
	r.start = from + size
	return f, nil
}

// fill reads until at least n bytes are in the buffer.
func (r *frameReader) fill(n int) error {
	if r.end-r.start >= n {
		return nil
	}
	if n > len(r.buf) {
		bigger := make([]byte, headerSize+MaxFrame)
		r.end = copy(bigger, r.buf[r.start:r.end])
		r.buf, r.start = bigger, 0
	} else if len(r.buf)-r.start < n || r.start == r.end {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	for empty := 0; r.end-r.start < n; {
		got, err := r.source.Read(r.buf[r.end:])
		r.end += got
		r.read.Add(int64(got))
		switch {
		case r.end-r.start >= n:
			return nil
		case err == io.EOF && r.end > r.start:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		case got > 0:
			empty = 0
		default:
			if empty++; empty == 100 {
				return io.ErrNoProgress
			}
		}
	}
	return nil
}

package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"georep/internal/delta"
)

const (
	// packWindow is how far back compression looks, in bytes. Both ends need some multiples of it.
	packWindow = 2 << 20
	// packLeast and packMost bound what is compressed at once, in bytes.
	packLeast = 256
	packMost  = MaxFrame / 2
	// packTarget is contentTarget for content that shrinks: each pack costs some bytes. With one more step it is still below packMost.
	packTarget = packMost - delta.MaxData - 4<<10

	// sampleLeast is the size from which content is tried before it is compressed, sampleSize how much of it is, and
	// sampleEvery after how many bytes of a file again.
	sampleLeast = 16 << 10
	sampleSize  = 4 << 10
	sampleEvery = 256 << 10
)

// packer compresses frames. All packs of a connection are one zstd stream, so that each profits from those before it; each ends
// where the stream was flushed, so that it can be unpacked at once.
type packer struct {
	encoder *zstd.Encoder
	out     bytes.Buffer
}

func newPacker() (*packer, error) {
	p := &packer{}
	var err error
	p.encoder, err = zstd.NewWriter(&p.out, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(packWindow), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("make zstd encoder: %w", err)
	}
	return p, nil
}

// close releases the encoder. The end of the stream that it writes goes nowhere.
func (p *packer) close() { _ = p.encoder.Close() }

// pack gives the frame that holds frames compressed; it is valid until the next call.
func (p *packer) pack(frames []byte) ([]byte, error) {
	p.out.Reset()
	var head [headerSize + binary.MaxVarintLen32]byte
	n := binary.PutUvarint(head[headerSize:], uint64(len(frames)))
	p.out.Write(head[:headerSize+n])
	_, err := p.encoder.Write(frames)
	if err == nil {
		err = p.encoder.Flush()
	}
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	b := p.out.Bytes()
	appendHeader(b[:0], len(b)-headerSize, framePack, flagZstd, 0)
	return b, nil
}

// unpacker undoes what a packer did.
type unpacker struct {
	decoder *zstd.Decoder
	source  packSource
	buf     []byte
}

// packSource gives the decoder the bytes of one pack after the other.
type packSource struct{ rest []byte }

// errPackEnds means that a pack holds less than it says.
var errPackEnds = errors.New("the pack ends early")

func (s *packSource) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, errPackEnds
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func newUnpacker() (*unpacker, error) {
	u := &unpacker{}
	var err error
	u.decoder, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(packWindow))
	if err == nil {
		err = u.decoder.Reset(&u.source)
	}
	if err != nil {
		return nil, fmt.Errorf("make zstd decoder: %w", err)
	}
	return u, nil
}

func (u *unpacker) close() { u.decoder.Close() }

// unpack gives the frames that a pack holds; they are valid until the next call.
func (u *unpacker) unpack(payload []byte) ([]byte, error) {
	size, n := binary.Uvarint(payload)
	if n <= 0 || size == 0 || size > MaxFrame {
		return nil, protocolError("a packed frame holds %d bytes", size)
	}
	if uint64(cap(u.buf)) < size {
		u.buf = make([]byte, size, max(size, batchTarget))
	}
	u.source.rest = payload[n:]
	out := u.buf[:size]
	if _, err := io.ReadFull(u.decoder, out); err != nil {
		return nil, protocolError("a packed frame does not unpack: %v", err)
	}
	if len(u.source.rest) > 0 {
		return nil, protocolError("a packed frame holds more than it says")
	}
	return out, nil
}

// sampler decides for one content whether it is worth compressing. The zero value begins a content.
type sampler struct {
	plain bool // it did not shrink when it was last tried
	next  int  // bytes until it is tried again
}

// shrinks says whether b, the next piece of the content, should be compressed.
func (s *sampler) shrinks(o *out, b []byte) bool {
	if !o.packs() {
		return false
	}
	if len(b) < sampleLeast {
		return !s.plain
	}
	if s.next -= len(b); s.next < 0 {
		s.next = sampleEvery
		s.plain = !o.tryPack(b[(len(b)-sampleSize)/2:][:sampleSize])
	}
	return !s.plain
}

package delta

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"
)

// chunk is how much content is read at once, in bytes: enough to make system calls cheap, little enough to stay in the processor's cache.
const chunk = 256 << 10

// Input is the content of a file.
type Input interface {
	io.ReaderAt
	// Extents calls fn for each stretch of the first size bytes, in order and without gaps; hole means that it reads as zeros
	// and need not be read. It stops at the first error of fn and returns it.
	Extents(size int64, fn func(off, n int64, hole bool) error) error
}

// signer computes entries of a signature.
type signer struct {
	p    Params
	poly *polynomial
	seed uint64
}

func newSigner(p Params) signer {
	return signer{p: p, poly: newPolynomial(p.Block, p.Seed), seed: mix(p.Seed ^ 0x736967)}
}

// roll is the part of a rolling hash that a signature holds.
func (s signer) roll(hash uint64) uint64 { return hash >> (64 - 8*s.p.Roll) }

// strong appends the part of the strong hash of data that a signature holds.
func (s signer) strong(to, data []byte) []byte {
	sum := xxh3.Hash128Seed(data, s.seed).Bytes()
	return append(to, sum[:s.p.Strong]...)
}

// entry appends what a signature says of one block.
func (s signer) entry(to, data []byte) []byte {
	roll := s.poly.hash(data)
	for i := range s.p.Roll {
		to = append(to, byte(roll>>(56-8*i)))
	}
	return s.strong(to, data)
}

// Sign writes the signature of the first size bytes of basis to w, SignatureSize bytes in pieces. When basis is an Input its
// holes are not read. A basis that ends before size is an error (io.ErrUnexpectedEOF).
func Sign(ctx context.Context, basis io.ReaderAt, size int64, p Params, w io.Writer) error {
	if err := p.Validate(); err != nil {
		return fmt.Errorf("sign basis: %w", err)
	}
	b := &signing{ctx: ctx, signer: newSigner(p), basis: basis, size: p.covered(size), out: bufio.NewWriterSize(w, 64<<10)}
	if b.size <= 0 {
		return nil
	}
	blocks := max(chunk/p.Block, 1)
	b.buf = make([]byte, min(int64(blocks*p.Block), b.size))
	err := b.blocks()
	if err == nil {
		err = b.out.Flush()
	}
	if err != nil {
		return fmt.Errorf("sign basis: %w", err)
	}
	return nil
}

// signing is one run of Sign.
type signing struct {
	signer
	ctx   context.Context
	basis io.ReaderAt
	size  int64
	at    int64 // the next block begins here
	out   *bufio.Writer
	buf   []byte
	one   []byte // scratch for an entry
	blank []byte // entry of a block of zeros, once it was needed
}

func (b *signing) blocks() error {
	in, ok := b.basis.(Input)
	if !ok {
		return b.read(b.size)
	}
	err := in.Extents(b.size, func(off, n int64, hole bool) error {
		if !hole || off > b.size || off+n <= b.at+int64(b.p.Block) {
			return nil
		}
		if err := b.read(off); err != nil {
			return err
		}
		return b.skip(min(off+n, b.size))
	})
	if err != nil {
		return err
	}
	return b.read(b.size)
}

// read signs blocks by reading them until one begins at or after to.
func (b *signing) read(to int64) error {
	for b.at < to {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		block := int64(b.p.Block)
		n := min((to-b.at+block-1)/block*block, int64(len(b.buf)), b.size-b.at)
		if err := readFull(b.basis, b.buf[:n], b.at); err != nil {
			return err
		}
		b.at += n
		for data := b.buf[:n]; len(data) > 0; {
			m := min(b.p.Block, len(data))
			if err := b.put(data[:m]); err != nil {
				return err
			}
			data = data[m:]
		}
	}
	return nil
}

// skip signs the whole blocks up to the end of a hole without reading.
func (b *signing) skip(end int64) error {
	block := int64(b.p.Block)
	if b.at+block > end {
		return nil
	}
	if b.blank == nil {
		zeros := make([]byte, block)
		b.blank = b.entry(nil, zeros)
	}
	for i := 0; b.at+block <= end; i++ {
		if i%(1<<16) == 0 && b.ctx.Err() != nil {
			return b.ctx.Err()
		}
		if _, err := b.out.Write(b.blank); err != nil {
			return err
		}
		b.at += block
	}
	return nil
}

func (b *signing) put(data []byte) error {
	b.one = b.entry(b.one[:0], data)
	_, err := b.out.Write(b.one)
	return err
}

// readFull reads all of buf at off; content that ends before is io.ErrUnexpectedEOF.
func readFull(from io.ReaderAt, buf []byte, off int64) error {
	n, err := from.ReadAt(buf, off)
	if n == len(buf) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %d bytes at %d: %w", len(buf), off, err)
}

package delta

import (
	"errors"
	"fmt"
	"math/bits"
)

// The limits of what one side accepts from the other. They bound memory and time, not the size of files.
const (
	// MaxBlock is the largest block, in bytes.
	MaxBlock = 16 << 20
	// MaxBlocks is the largest number of blocks in a signature. What a basis has beyond MaxBlocks blocks is not offered for copying.
	MaxBlocks = 1 << 23
	// MaxData is the largest Data operation, in bytes.
	MaxData = 128 << 10
	// MaxCopy is the largest Copy operation, in bytes, so that applying one takes a bounded time.
	MaxCopy = 64 << 20

	minBlock   = 64
	minRoll    = 3
	maxRoll    = 8
	minStrong  = 2
	maxStrong  = 16
	rsyncBlock = 700
	sameBlock  = 128 << 10 // rsync's largest block, and ours up to sameBlock * MaxBlocks bytes of basis
)

// ErrParams is the error of parameters that are outside the limits.
var ErrParams = errors.New("delta parameters out of range")

// Params says how a basis is cut and hashed. Both sides must use the same.
type Params struct {
	Block  int    // bytes of a block: a multiple of 4 from 64 to MaxBlock
	Roll   int    // bytes of the rolling hash that a signature holds for each block: 3 to 8
	Strong int    // bytes of the strong hash that a signature holds for each block: 2 to 16
	Seed   uint64 // random, and unknown to whoever writes the files
}

// Choose gives the parameters for a basis of basisSize bytes and a target of about targetSize bytes.
//
// The block is rsync's, but smaller in files of less than 40 KiB, where rsync's would be a good part of the file. The bytes of an entry
// are no more than rsync's: enough that a wrong match happens in fewer than one of a thousand files. How they are divided is ours: of the
// rolling hash as many that a search hardly ever computes a strong hash in vain.
func Choose(basisSize, targetSize int64, seed uint64) Params {
	basisSize = max(basisSize, 0)
	p := Params{Block: blockFor(basisSize), Seed: seed}
	// The number of pairs (place in the target, block of the basis) that could match wrongly, as a power of two, and ten
	// bits more. A target much larger than the basis is worth the longer entries, of which it needs few.
	pairs := log2(basisSize) + log2(max(basisSize, targetSize)) - log2(int64(p.Block)) + 10
	total := max((pairs+8)/8, minRoll+minStrong)
	p.Roll = min(max((log2(basisSize)+2+7)/8, minRoll), maxRoll)
	p.Strong = min(max(total-p.Roll, minStrong), maxStrong)
	return p
}

// blockFor is rsync's choice, the square root of the size in steps of 8, with larger blocks where rsync's would be more than MaxBlocks. In
// small files, which change at a place or two, a smaller block costs less in the signature than it saves in data.
func blockFor(size int64) int {
	if size <= rsyncBlock*rsyncBlock {
		return min(max(int(squareRoot(12*size))&^3, minBlock), rsyncBlock)
	}
	for block := int64(sameBlock); block < MaxBlock; block *= 2 {
		if size > block*MaxBlocks {
			continue
		}
		if block == sameBlock && size < sameBlock*sameBlock {
			return int(max(squareRoot(size)&^7, rsyncBlock))
		}
		return int(block)
	}
	return MaxBlock
}

// squareRoot rounds down; n must be below 1<<62.
func squareRoot(n int64) int64 {
	var root int64
	for bit := int64(1) << 30; bit > 0; bit >>= 1 {
		if (root|bit)*(root|bit) <= n {
			root |= bit
		}
	}
	return root
}

// log2 rounds down; it is 0 for n < 1.
func log2(n int64) int {
	if n < 1 {
		return 0
	}
	return bits.Len64(uint64(n)) - 1
}

// Validate refuses parameters of the other side that are outside the limits, with an error that wraps ErrParams.
func (p Params) Validate() error {
	switch {
	case p.Block < minBlock || p.Block > MaxBlock || p.Block%4 != 0:
		return fmt.Errorf("block of %d bytes: %w", p.Block, ErrParams)
	case p.Roll < minRoll || p.Roll > maxRoll:
		return fmt.Errorf("rolling hash of %d bytes: %w", p.Roll, ErrParams)
	case p.Strong < minStrong || p.Strong > maxStrong:
		return fmt.Errorf("strong hash of %d bytes: %w", p.Strong, ErrParams)
	}
	return nil
}

// Stronger gives the parameters for another try after the whole content did not have its hash: full hashes, under another seed.
func (p Params) Stronger() Params {
	p.Roll, p.Strong = maxRoll, maxStrong
	p.Seed = mix(p.Seed + 1)
	return p
}

// Entries is the number of blocks, the short last one included, of the signature of a basis of that many bytes.
func (p Params) Entries(basisSize int64) int {
	if basisSize <= 0 || p.Block <= 0 {
		return 0
	}
	block := int64(p.Block)
	return int(min((basisSize-1)/block+1, MaxBlocks))
}

// SignatureSize is the length in bytes of what Sign writes for a basis of that many bytes.
func (p Params) SignatureSize(basisSize int64) int {
	return p.Entries(basisSize) * (p.Roll + p.Strong)
}

// covered is how many bytes of the basis the signature speaks of.
func (p Params) covered(basisSize int64) int64 {
	return min(basisSize, int64(p.Entries(basisSize))*int64(p.Block))
}

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// perDir is how many files a directory of a generated tree has.
const perDir = 1000

// generator makes bytes that do not compress, the same at every run.
func generator() *rand.ChaCha8 {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], 20260101)
	return rand.NewChaCha8(seed)
}

// growTree makes files of a size in directories of perDir.
func growTree(ctx context.Context, root string, files int, size int64) error {
	random := generator()
	data := make([]byte, size)
	for i := range files {
		dir := filepath.Join(root, fmt.Sprintf("d%05d", i/perDir))
		if i%perDir == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		_, _ = random.Read(data) // never fails
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%06d.dat", i)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// growFile makes one file.
func growFile(ctx context.Context, path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	random, data := generator(), make([]byte, 1<<20)
	for left := size; left > 0; left -= int64(len(data)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		data = data[:min(int64(len(data)), left)]
		_, _ = random.Read(data) // never fails
		if _, err := f.Write(data); err != nil {
			return err
		}
	}
	return f.Close()
}

// changedPart is how much is written at once when a file changes, in bytes.
const changedPart = 16 << 10

// changeFile overwrites 1 % of a file, at random places.
func changeFile(path string, random io.Reader) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	data := make([]byte, changedPart)
	for range max(1, info.Size()/100/changedPart) {
		var at [8]byte
		_, _ = io.ReadFull(random, at[:]) // a generator never fails
		_, _ = io.ReadFull(random, data)
		where := int64(binary.LittleEndian.Uint64(at[:]) % uint64(info.Size()-changedPart))
		if _, err := f.WriteAt(data, where); err != nil {
			return err
		}
	}
	return f.Close()
}

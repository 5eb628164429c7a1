package rooted

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"georep/internal/change"
)

// BenchmarkCreate makes 4 KiB files as the applier does: complete before they get their name.
func BenchmarkCreate(b *testing.B) {
	d := open(b, b.TempDir()).Top()
	content := make([]byte, 4096)
	attr := change.Attr{Mode: 0o644, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Mtime: change.Time{Sec: 1e9}}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		f, err := d.OpenTemp(0o600)
		must(b, err)
		_, err = f.WriteAt(content, 0)
		must(b, err)
		must(b, f.SetAttr(attr, true, true))
		must(b, f.LinkTo(d, fmt.Sprint("file", i)))
		_, err = f.Stat()
		must(b, err)
		must(b, f.Close())
		i++
	}
}

// BenchmarkWriteFile is the least that a file costs, for comparison.
func BenchmarkWriteFile(b *testing.B) {
	dir := b.TempDir()
	content := make([]byte, 4096)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		must(b, os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), content, 0o644))
		i++
	}
}

func benchDir(b *testing.B) *Dir {
	dir := b.TempDir()
	for i := range 1000 {
		must(b, os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), nil, 0o644))
	}
	return open(b, dir).Top()
}

func BenchmarkStatLite(b *testing.B) {
	d := benchDir(b)
	b.ReportAllocs()
	for b.Loop() {
		_, err := d.StatLite("file500")
		must(b, err)
	}
}

func BenchmarkStat(b *testing.B) {
	d := benchDir(b)
	b.ReportAllocs()
	for b.Loop() {
		_, err := d.Stat("file500")
		must(b, err)
	}
}

func BenchmarkReadXattrs(b *testing.B) {
	d := benchDir(b)
	b.ReportAllocs()
	for b.Loop() {
		var o change.Object
		must(b, d.ReadXattrs("file500", &o))
	}
}

// BenchmarkEntries lists 1000 names.
func BenchmarkEntries(b *testing.B) {
	d := benchDir(b)
	buf := make([]byte, 64<<10)
	b.ReportAllocs()
	for b.Loop() {
		must(b, d.Entries(buf, func(string, change.Kind, uint64) error { return nil }))
	}
}

func BenchmarkOpenDir(b *testing.B) {
	dir := b.TempDir()
	must(b, os.MkdirAll(filepath.Join(dir, "a/b/c/d/e"), 0o755))
	r := open(b, dir)
	b.ReportAllocs()
	for b.Loop() {
		d, err := r.OpenDir("a/b/c/d/e")
		must(b, err)
		must(b, d.Close())
	}
}

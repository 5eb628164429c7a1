package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

const top = "../../.."

// What is generated must be what the commands say now.
func TestGeneratedDocumentsAreUpToDate(t *testing.T) {
	pages, err := manual()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range pages {
		got, err := os.ReadFile(filepath.Join(top, manualDir, name))
		if err != nil {
			t.Errorf("%v: run go run ./internal/cli/mangen", err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s is out of date: run go run ./internal/cli/mangen", name)
		}
	}
	present, err := filepath.Glob(filepath.Join(top, manualDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range present {
		if pages[filepath.Base(path)] == nil {
			t.Errorf("%s belongs to no command: remove it", path)
		}
	}
	guide, err := os.ReadFile(filepath.Join(top, guideFile))
	if err != nil {
		t.Fatal(err)
	}
	want, err := withOptions(guide)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(guide, want) {
		t.Errorf("the options in %s are out of date: run go run ./internal/cli/mangen", guideFile)
	}
}

func TestGuideWithoutMarksIsRefused(t *testing.T) {
	if _, err := withOptions([]byte("# Guide\n")); err == nil {
		t.Error("a guide without marks was accepted")
	}
}

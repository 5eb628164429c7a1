// Package archtest is the plan of the house as a test: who may import whom, and the rules of style that a machine can check.
//
// The tables are in tables.go. A change of the plan changes them, and docs/decisions says why.
package archtest

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// module is the path of our module, as go.mod says.
const module = "georep"

// file is one Go file of the project.
type file struct {
	path      string // relative to the root, with slashes
	pkg       string // directory, relative to the root
	name      string // of the package clause
	test      bool
	generated bool
	lines     int
	syntax    *ast.File
	fset      *token.FileSet
}

// at names a position for a message.
func (f *file) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.path, f.fset.Position(n.Pos()).Line)
}

// room is the package's directory below internal, or the directory itself: "wire", "source/scan", "cmd/georep".
func (f *file) room() string { return strings.TrimPrefix(f.pkg, "internal/") }

// imports are the paths that the file imports.
func (f *file) imports() []string {
	var paths []string
	for _, spec := range f.syntax.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err == nil { // the parser has seen to it
			paths = append(paths, path)
		}
	}
	return paths
}

// calls says whether the node calls pkg.name, written so.
func calls(n ast.Node, pkg, name string) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || selector.Sel.Name != name {
		return false
	}
	x, ok := selector.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// findRoot walks up to the directory with go.mod.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = up
	}
}

// skipped are directories that hold nothing of ours.
func skipped(name string) bool {
	return name == ".git" || name == "testdata" || name == "node_modules"
}

// load parses all Go files beneath root, those of other modules excepted.
func load(root string) ([]*file, error) {
	var files []*file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if skipped(d.Name()) {
				return filepath.SkipDir
			}
			_, err := os.Stat(filepath.Join(path, "go.mod"))
			if path != root && err == nil {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parse(root, path)
		files = append(files, f)
		return err
	})
	slices.SortFunc(files, func(a, b *file) int { return strings.Compare(a.path, b.path) })
	return files, err
}

func parse(root, path string) (*file, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	relative, err := filepath.Rel(root, path)
	if err != nil {
		return nil, err
	}
	return parseText(filepath.ToSlash(relative), content)
}

// parseText parses the content of a file; the path is relative to the root.
func parseText(path string, content []byte) (*file, error) {
	fset := token.NewFileSet()
	syntax, err := parser.ParseFile(fset, path, content, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	return &file{
		path: path, pkg: filepath.ToSlash(filepath.Dir(path)), name: syntax.Name.Name,
		test: strings.HasSuffix(path, "_test.go"), generated: ast.IsGenerated(syntax),
		lines: strings.Count(string(content), "\n"), syntax: syntax, fset: fset,
	}, nil
}

package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
)

// within says whether a room is one of those listed or below one.
func within(room string, rooms []string) bool {
	return slices.ContainsFunc(rooms, func(r string) bool { return room == r || strings.HasPrefix(room, r+"/") })
}

// importRules checks the table of rooms.
func importRules(files []*file) (faults []string) {
	table := mayImport()
	for _, f := range files {
		room := f.room()
		allowed, known := table[room]
		if !known {
			if top, _, _ := strings.Cut(room, "/"); top != "bench" && top != "test" {
				faults = append(faults, fmt.Sprintf("%s: the room %q has no line in the table of imports", f.path, room))
				continue
			}
			allowed = []string{"*"}
		}
		if f.test {
			continue // tests may use any room to stand on
		}
		for _, imported := range f.imports() {
			target, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			target = strings.TrimPrefix(target, "internal/")
			shipped := !within(target, neverShipped())
			if slices.Contains(allowed, target) || slices.Contains(allowed, "*") && (shipped || within(room, neverShipped())) {
				continue
			}
			faults = append(faults, fmt.Sprintf("%s: %s may not import %s", f.path, room, target))
		}
	}
	return faults
}

// restrictedImports checks packages of others that only some rooms may use.
func restrictedImports(files []*file) (faults []string) {
	few, blind := restricted(), pure()
	for _, f := range files {
		if f.test || within(f.room(), neverShipped()) {
			continue
		}
		for _, imported := range f.imports() {
			if rooms, ok := few[imported]; ok && !slices.Contains(rooms, f.room()) {
				faults = append(faults, fmt.Sprintf("%s: %s is only for %v", f.path, imported, rooms))
			}
			if slices.Contains(blind[f.room()], imported) {
				faults = append(faults, fmt.Sprintf("%s: %s may not import %s", f.path, f.room(), imported))
			}
			if imported == "C" {
				faults = append(faults, fmt.Sprintf("%s: no cgo", f.path))
			}
		}
	}
	return faults
}

// sizes checks lengths of files and functions.
func sizes(files []*file) (faults []string) {
	excepted := longFunctions()
	used := map[string]bool{}
	for _, f := range files {
		if f.generated {
			continue
		}
		if f.lines > maxFileLines {
			faults = append(faults, fmt.Sprintf("%s: %d lines, at most %d", f.path, f.lines, maxFileLines))
		}
		limit := maxFunctionLines
		if f.test {
			limit = maxTestLines
		}
		for _, d := range f.syntax.Decls {
			function, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			key := f.path + " " + function.Name.Name
			lines := f.fset.Position(function.End()).Line - f.fset.Position(function.Pos()).Line + 1
			if lines <= limit {
				continue
			}
			if _, ok := excepted[key]; ok {
				used[key] = true
				continue
			}
			faults = append(faults, fmt.Sprintf("%s: %s has %d lines, at most %d", f.at(function), function.Name.Name, lines, limit))
		}
	}
	for key := range excepted {
		if !used[key] && slices.ContainsFunc(files, func(f *file) bool { return strings.HasPrefix(key, f.path+" ") }) {
			faults = append(faults, fmt.Sprintf("%s: is listed as a long function and is none", key))
		}
	}
	return faults
}

// packageComments demands exactly one package comment per package, which begins as godoc wants it, and a good name.
func packageComments(files []*file) (faults []string) {
	comments := map[string]int{}
	for _, f := range files {
		if f.test || f.generated {
			continue
		}
		comments[f.pkg] += 0
		if slices.Contains(badNames(), f.name) {
			faults = append(faults, fmt.Sprintf("%s: package %s is named after nothing", f.path, f.name))
		}
		doc := f.syntax.Doc
		if doc == nil {
			continue
		}
		comments[f.pkg]++
		begin := "Package " + f.name + " "
		if f.name == "main" {
			begin = "Command " + path.Base(f.pkg) + " "
		}
		if !strings.HasPrefix(doc.Text(), begin) {
			faults = append(faults, fmt.Sprintf("%s: the package comment must begin with %q", f.path, begin))
		}
	}
	for pkg, n := range comments {
		if n != 1 && !onlyGenerated(files, pkg) {
			faults = append(faults, fmt.Sprintf("%s: %d package comments, want one", pkg, n))
		}
	}
	return faults
}

func onlyGenerated(files []*file, pkg string) bool {
	for _, f := range files {
		if f.pkg == pkg && !f.test && !f.generated {
			return false
		}
	}
	return true
}

// documented demands a comment for every exported name at the top level of what is not a test.
func documented(files []*file) (faults []string) {
	for _, f := range files {
		if f.test || f.generated || f.name == "main" {
			continue
		}
		for _, d := range f.syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !obvious(d.Name.Name) {
					faults = append(faults, fmt.Sprintf("%s: %s has no comment", f.at(d), d.Name.Name))
				}
			case *ast.GenDecl:
				faults = append(faults, undocumentedSpecs(f, d)...)
			}
		}
	}
	return faults
}

// obvious are methods whose interface says everything.
func obvious(name string) bool {
	return slices.Contains([]string{"String", "Error", "Unwrap", "Len", "Less", "Swap", "Is"}, name)
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	exported := true
	ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			exported = id.IsExported()
			return false
		}
		return true
	})
	return exported
}

// undocumentedSpecs finds exported types, constants and variables without a comment: of their own, of their group, or behind them.
func undocumentedSpecs(f *file, d *ast.GenDecl) (faults []string) {
	for _, spec := range d.Specs {
		var names []*ast.Ident
		var doc *ast.CommentGroup
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			names, doc = []*ast.Ident{spec.Name}, spec.Doc
		case *ast.ValueSpec:
			names, doc = spec.Names, spec.Doc
			if doc == nil {
				doc = spec.Comment
			}
		}
		for _, name := range names {
			if name.IsExported() && doc == nil && d.Doc == nil {
				faults = append(faults, fmt.Sprintf("%s: %s has no comment", f.at(name), name.Name))
			}
		}
	}
	return faults
}

// habits checks what no function may do: init, os.Exit below cmd, sleeping tests, skips that hide.
func habits(files []*file) (faults []string) {
	for _, f := range files {
		if f.generated {
			continue
		}
		for _, d := range f.syntax.Decls {
			function, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if function.Name.Name == "init" && function.Recv == nil {
				faults = append(faults, fmt.Sprintf("%s: no init functions", f.at(function)))
			}
			faults = append(faults, habitsOf(f, function)...)
		}
	}
	return faults
}

func habitsOf(f *file, function *ast.FuncDecl) (faults []string) {
	fault := func(n ast.Node, text string) { faults = append(faults, fmt.Sprintf("%s: %s", f.at(n), text)) }
	exits := strings.HasPrefix(f.pkg, "cmd/") || f.name == "main" || f.test && function.Name.Name == "TestMain"
	// Under testing/synctest a sleep costs nothing and proves something.
	tests := (f.test || within(f.room(), neverShipped())) && !slices.Contains(f.imports(), "testing/synctest")
	ast.Inspect(function, func(n ast.Node) bool {
		switch {
		case calls(n, "os", "Exit") && !exits, calls(n, "log", "Fatal"), calls(n, "log", "Fatalf"):
			fault(n, "only main may end the process")
		case calls(n, "time", "Sleep") && tests:
			fault(n, "tests wait for conditions and do not sleep")
		case skips(n) && f.room() != "need" && !mentionsAll(function):
			fault(n, "a skip must go through internal/need, or fail when GEOREP_TEST_ALL is 1")
		}
		return true
	})
	return faults
}

func skips(n ast.Node) bool {
	for _, receiver := range []string{"t", "b", "tb"} {
		if calls(n, receiver, "Skip") || calls(n, receiver, "Skipf") || calls(n, receiver, "SkipNow") {
			return true
		}
	}
	return false
}

func mentionsAll(function *ast.FuncDecl) bool {
	found := false
	ast.Inspect(function, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING && strings.Contains(literal.Value, "GEOREP_TEST_ALL") {
			found = true
		}
		return !found
	})
	return found
}

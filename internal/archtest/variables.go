package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
)

// mutableVariables finds package variables that are assigned to, and those whose type is made to change.
func mutableVariables(files []*file) (faults []string) {
	packages := map[string][]*file{}
	for _, f := range files {
		if !f.test && !f.generated {
			packages[f.pkg] = append(packages[f.pkg], f)
		}
	}
	for _, members := range packages {
		variables := map[string]bool{}
		for _, f := range members {
			faults = append(faults, declaredVariables(f, variables)...)
		}
		for _, f := range members {
			faults = append(faults, assignments(f, variables)...)
		}
	}
	return faults
}

// declaredVariables enters the package variables of a file, and reports those of types that exist to be changed.
func declaredVariables(f *file, variables map[string]bool) (faults []string) {
	for _, d := range f.syntax.Decls {
		group, ok := d.(*ast.GenDecl)
		if !ok || group.Tok != token.VAR {
			continue
		}
		for _, spec := range group.Specs {
			value := spec.(*ast.ValueSpec)
			for _, name := range value.Names {
				variables[name.Name] = true
			}
			if changing(value.Type) {
				faults = append(faults, fmt.Sprintf("%s: a package variable that changes", f.at(value)))
			}
		}
	}
	delete(variables, "_")
	return faults
}

// changing says whether a type is of sync or sync/atomic; a pool is a cache and does no harm.
func changing(t ast.Expr) bool {
	if generic, ok := t.(*ast.IndexExpr); ok {
		t = generic.X
	}
	selector, ok := t.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := selector.X.(*ast.Ident)
	return ok && (pkg.Name == "sync" || pkg.Name == "atomic") && selector.Sel.Name != "Pool"
}

// assignments finds where package variables, or parts of them, are assigned to.
func assignments(f *file, variables map[string]bool) (faults []string) {
	check := func(target ast.Expr) {
		name := rootOf(target)
		// A name that the parser resolved within the file is a local one, unless it was declared at the top.
		if name == nil || !variables[name.Name] || name.Obj != nil && f.syntax.Scope.Lookup(name.Name) != name.Obj {
			return
		}
		faults = append(faults, fmt.Sprintf("%s: the package variable %s is changed", f.at(target), name.Name))
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, target := range n.Lhs {
					check(target)
				}
			}
		case *ast.IncDecStmt:
			check(n.X)
		}
		return true
	})
	return faults
}

// rootOf is the variable that an expression like v.a[i].b is a part of.
func rootOf(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return nil
		}
	}
}

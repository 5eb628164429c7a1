package gsyncd

import "context"

// helpers are the programs besides gsyncd that we stand for, by the names under which they are started.
func (p *Program) helpers() map[string]func(context.Context, []string) error {
	return map[string]func(context.Context, []string) error{}
}

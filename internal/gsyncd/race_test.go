//go:build race

package gsyncd

const underRace = true

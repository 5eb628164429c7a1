//go:build !race

package gsyncd

const underRace = false

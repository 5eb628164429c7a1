//go:build race

package test

// raceDetector says whether this test was built to notice data races.
const raceDetector = true

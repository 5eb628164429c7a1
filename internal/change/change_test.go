package change

import (
	"testing"
	"time"
)

// TestCut cuts times as file systems do: downwards, also before 1970.
func TestCut(t *testing.T) {
	for _, c := range []struct {
		step       time.Duration
		have, want Time
	}{
		{0, Time{5, 123_456_789}, Time{5, 123_456_789}},
		{1, Time{5, 123_456_789}, Time{5, 123_456_789}},
		{100, Time{5, 123_456_789}, Time{5, 123_456_700}},
		{10 * time.Millisecond, Time{-5, 123_456_789}, Time{-5, 120_000_000}},
		{time.Second, Time{5, 999_999_999}, Time{5, 0}},
		{2 * time.Second, Time{5, 1}, Time{4, 0}},
		{2 * time.Second, Time{-5, 1}, Time{-6, 0}},
	} {
		if got := c.have.Cut(c.step); got != c.want {
			t.Errorf("%v in steps of %v is %v, want %v", c.have, c.step, got, c.want)
		}
	}
}

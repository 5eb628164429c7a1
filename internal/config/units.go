package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ParseSize reads a number of bytes: "4096", "10M", "2.5 GiB", "1GB". K, M, G and T alone and with iB count in steps of
// 1024, as rsync and ssh do; KB, MB, GB and TB count in steps of 1000. The result is never negative.
func ParseSize(text string) (int64, error) {
	number, unit := splitUnit(text)
	factor, ok := sizeFactor(unit)
	value, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || value < 0 || math.IsNaN(value) || value*factor >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is not a size: write for example 500K, 10M or 2.5GiB", text)
	}
	return int64(value * factor), nil
}

// ParseRate reads bytes per second: a size with or without "/s", or bits as networks count them ("100Mbit", "1Gbit/s",
// steps of 1000). "0" and "none" mean no limit and give 0.
func ParseRate(text string) (int64, error) {
	trimmed := strings.TrimSuffix(strings.TrimSpace(text), "/s")
	if trimmed == "none" {
		return 0, nil
	}
	number, unit := splitUnit(trimmed)
	bits := strings.ToLower(unit)
	if prefix, ok := strings.CutSuffix(bits, "bit"); ok {
		factor, known := map[string]float64{"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[prefix]
		value, err := strconv.ParseFloat(number, 64)
		if known && err == nil && value >= 0 && value*factor/8 < math.MaxInt64 {
			return int64(value * factor / 8), nil
		}
	}
	size, err := ParseSize(trimmed)
	if err != nil {
		return 0, fmt.Errorf("%q is not a rate: write for example 500K, 2.5MiB/s or 100Mbit/s, or 0 for no limit", text)
	}
	return size, nil
}

// splitUnit takes the leading number off a text.
func splitUnit(text string) (number, unit string) {
	text = strings.TrimSpace(text)
	end := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end < 0 {
		return text, ""
	}
	return text[:end], strings.TrimSpace(text[end:])
}

// sizeFactor gives the bytes in one of a unit.
func sizeFactor(unit string) (float64, bool) {
	unit = strings.ToUpper(unit)
	if unit == "" || unit == "B" {
		return 1, true
	}
	power := strings.IndexByte("KMGT", unit[0]) + 1
	if power == 0 {
		return 0, false
	}
	switch unit[1:] {
	case "", "IB":
		return math.Pow(1024, float64(power)), true
	case "B":
		return math.Pow(1000, float64(power)), true
	}
	return 0, false
}

// FormatSize is the short form of a number of bytes, which ParseSize reads: "0", "512", "10M", "1536K".
func FormatSize(n int64) string {
	units := [...]string{"", "K", "M", "G", "T"}
	power := 0
	for n != 0 && n%1024 == 0 && power < len(units)-1 {
		n, power = n/1024, power+1
	}
	return strconv.FormatInt(n, 10) + units[power]
}

// ParseDuration reads "90s", "15m", "1h30m" or "2d" (days of 24 hours). The result is never negative.
func ParseDuration(text string) (time.Duration, error) {
	trimmed := strings.TrimSpace(text)
	if days, ok := strings.CutSuffix(trimmed, "d"); ok {
		if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n < 36500 {
			return time.Duration(n * 24 * float64(time.Hour)), nil
		}
	}
	d, err := time.ParseDuration(trimmed)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration: write for example 90s, 15m, 1h30m or 2d", text)
	}
	return d, nil
}

// DeleteLimit says how much may be deleted without asking: deletions halt when they are more than Percent of all entries
// and more than Entries.
type DeleteLimit struct {
	Percent float64 // 0 to 100
	Entries int64   // 0 or more
}

// ParseDeleteLimit reads "25%" or "25%:1000": a share of all entries, and a number of entries below which nothing is asked.
// Without a number, that of before is kept.
func ParseDeleteLimit(text string, before DeleteLimit) (DeleteLimit, error) {
	limit := before
	share, entries, hasEntries := strings.Cut(strings.TrimSpace(text), ":")
	percent, isPercent := strings.CutSuffix(share, "%")
	value, err := strconv.ParseFloat(percent, 64)
	if !isPercent || err != nil || !(value >= 0 && value <= 100) {
		return before, errDeleteLimit(text)
	}
	limit.Percent = value
	if hasEntries {
		n, err := strconv.ParseUint(entries, 10, 63)
		if err != nil {
			return before, errDeleteLimit(text)
		}
		limit.Entries = int64(n)
	}
	return limit, nil
}

func errDeleteLimit(text string) error {
	return fmt.Errorf("%q is not a delete limit: write a share from 0%% to 100%%, or a share and a number of entries, for example 25%%:1000", text)
}

// String is the form that ParseDeleteLimit reads.
func (l DeleteLimit) String() string {
	return strconv.FormatFloat(l.Percent, 'f', -1, 64) + "%:" + strconv.FormatInt(l.Entries, 10)
}

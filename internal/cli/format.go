package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// quoted shows a path so that it can neither move the cursor nor be mistaken: as it is when all of it prints, else between
// double quotes with escapes as in Go and C.
func quoted(path string) string {
	plain := path != "" && path == strings.TrimSpace(path) && utf8.ValidString(path)
	for _, r := range path {
		plain = plain && unicode.IsPrint(r) && r != '"' && r != '\\'
	}
	if plain {
		return path
	}
	return strconv.Quote(path)
}

// printable takes control characters and broken UTF-8 out of a sentence that may hold what another host sent.
func printable(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r == '\n' || r == '\t' || unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// count writes a number with commas: "1,234,567".
func count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for at := len(digits) - 3; at > 0 && digits[at-1] != '-'; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// entries is "1 entry" or "12,345 entries".
func entries(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return count(n) + " entries"
}

// size writes bytes for a person: "512 B", "1.5 GiB".
func size(n int64) string {
	value, unit := float64(n), "B"
	for _, next := range [...]string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if value < 1000 {
			break
		}
		value, unit = value/1024, next
	}
	if unit == "B" {
		return strconv.FormatInt(n, 10) + " B"
	}
	if value < 9.95 {
		return fmt.Sprintf("%.1f %s", value, unit)
	}
	return fmt.Sprintf("%.0f %s", value, unit)
}

// span writes a duration with the two units that matter: "0.3 s", "45 s", "2 min 10 s", "3 h 5 min", "2 d 4 h".
func span(d time.Duration) string {
	if d < 0 {
		d = 0
	}
	seconds := int64(d.Round(time.Second) / time.Second)
	switch {
	case d < 9950*time.Millisecond:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case seconds < 60:
		return fmt.Sprintf("%d s", seconds)
	case seconds < 3600:
		return twoUnits(seconds/60, "min", seconds%60, "s")
	case seconds < 24*3600:
		return twoUnits(seconds/3600, "h", seconds%3600/60, "min")
	}
	return twoUnits(seconds/86400, "d", seconds%86400/3600, "h")
}

func twoUnits(big int64, bigUnit string, small int64, smallUnit string) string {
	if small == 0 {
		return fmt.Sprintf("%d %s", big, bigUnit)
	}
	return fmt.Sprintf("%d %s %d %s", big, bigUnit, small, smallUnit)
}

// about writes a time that is only estimated, rounded to what is likely to be true.
func about(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return "a few seconds"
	case d < time.Minute:
		return span(d.Round(5 * time.Second))
	case d < 10*time.Minute:
		return span(d.Round(30 * time.Second))
	case d < 2*time.Hour:
		return span(d.Round(time.Minute))
	}
	return span(d.Round(10 * time.Minute))
}

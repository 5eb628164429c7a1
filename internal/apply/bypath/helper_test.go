package bypath

import (
	"time"

	"georep/internal/delta"
)

func stdTime(n int) time.Time { return time.Unix(1_600_000_000+int64(n), 123_456_789) }

func hashOf(content string) [16]byte {
	h := delta.NewHash(1)
	_, _ = h.Write([]byte(content))
	return h.Sum()
}

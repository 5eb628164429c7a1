package source
import ("testing";"time";"fmt";"context")
func (r *replica) dbg(v *Volume, b Batch, err error) { idle, s := v.pending.idle(); _, jobs := v.walker.Oldest()
 fmt.Println(err, len(b.Seen), b.CaughtUp, b.At, "idle", idle, s, "jobs", jobs, "pass", v.next.pass, "told", v.next.told.late.Len(), v.next.told.ripe.Len(), "swept", v.next.swept.late.Len(), v.next.swept.ripe.Len(), "quiet", v.next.quiet, v.want.Load(), "asked", v.next.asked.Load(), len(v.pending.queue), len(v.pending.slow), time.Now(), b.Scan) }
var _ = context.Background
var _ testing.T

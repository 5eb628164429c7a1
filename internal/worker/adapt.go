package worker

import (
	"context"
	"syscall"
	"time"

	"georep/internal/change"
	"georep/internal/checkpoint"
	"georep/internal/index"
	"georep/internal/replicate"
	"georep/internal/source"
	"georep/internal/source/ignore"
	"georep/internal/status"
)

// store makes the index the loop's store.
type store struct {
	*index.Index
	marks *marks // nil: nothing is committed on the secondary
}

// Mark implements replicate.Store.
func (s store) Mark() string { return s.marks.next }

func (s store) Total() (entries, bytes int64, err error) {
	entries, bytes = s.Totals()
	return entries, bytes, nil
}

func (s store) Begin(gen uint64, dirs []change.ID) error { return s.BeginIntents(gen, dirs) }

func (s store) Commit(gens []uint64, effects []replicate.Effect, mark string) error {
	next := ""
	if mark != "" {
		next = s.marks.after()
	}
	err := s.Update(func(tx *index.Tx) error {
		if mark != "" {
			setMarks(tx, mark, next)
		}
		if err := put(tx, effects); err != nil {
			return err
		}
		for _, gen := range gens {
			tx.EndIntents(gen)
		}
		return nil
	})
	if err == nil && mark != "" {
		s.marks.next = next
	}
	return err
}

func (s store) Reconcile(effects []replicate.Effect, dirs []change.ID) error {
	return s.Update(func(tx *index.Tx) error {
		if err := put(tx, effects); err != nil {
			return err
		}
		for _, dir := range dirs {
			tx.Reconciled(dir)
		}
		return nil
	})
}

func put(tx *index.Tx, effects []replicate.Effect) error {
	for i := range effects {
		f := &effects[i]
		if !f.Tree.IsZero() {
			tx.DeleteTree(f.Tree)
		}
		if !f.Doubt.IsZero() {
			tx.Doubt(f.Doubt)
		}
		if f.Entry == nil {
			if err := tx.Delete(f.At); err != nil {
				return err
			}
		} else if err := tx.Put(f.At, *f.Entry); err != nil {
			return err
		}
	}
	return nil
}

// ledger makes the failure ledger the loop's.
type ledger struct{ l *checkpoint.Ledger }

func (l *ledger) Fail(failing []replicate.Failing) error {
	items := make([]checkpoint.Item, len(failing))
	for i := range failing {
		f := &failing[i]
		items[i] = checkpoint.Item{At: f.At, Failure: checkpoint.Failure{
			Path: f.Path, Op: opOf(f.Op), Call: f.Call, Errno: syscall.Errno(f.Errno), Detail: f.Error, Local: f.Side == status.Source,
		}}
	}
	if err := l.l.Fail(items...); err != nil {
		return err
	}
	for i := range failing {
		f, item := &failing[i], &items[i]
		f.Count, f.First, f.Last, f.Next = int(item.Count), item.First, item.Last, item.Next
	}
	return nil
}

// opRead is what the operator is told that could not be done when an entry of the source could not even be read.
const opRead = "read"

// opOf is the operation of a name; 0 for opRead.
func opOf(name string) change.Op {
	for op := change.Make; op <= change.Times; op++ {
		if op.String() == name {
			return op
		}
	}
	return 0
}

func nameOf(op change.Op) string {
	if op == 0 {
		return opRead
	}
	return op.String()
}

func (l *ledger) Healed(places []change.Place) ([]replicate.Failing, error) {
	items, err := l.l.Healed(places...)
	was := make([]replicate.Failing, len(items))
	for i := range items {
		was[i] = replicate.Failing{At: items[i].At, Failure: failure(items[i])}
	}
	return was, err
}

func (l *ledger) Due(now time.Time, limit int) ([]change.Place, time.Time, error) {
	next, found, err := l.l.NextDue()
	if err != nil || !found {
		return nil, time.Time{}, err
	}
	items, err := l.l.Due(now, limit)
	places := make([]change.Place, len(items))
	for i := range items {
		places[i] = items[i].At
	}
	return places, next, err
}

func (l *ledger) PutOff(places ...change.Place) error { return l.l.PutOff(places...) }

func (l *ledger) Count() int { return int(l.l.Count()) }

func (l *ledger) failures(limit int) ([]status.Failure, error) {
	var out []status.Failure
	err := l.l.List(func(i checkpoint.Item) error {
		if len(out) < limit {
			out = append(out, failure(i))
		}
		return nil
	})
	return out, err
}

func failure(i checkpoint.Item) status.Failure {
	f := status.Failure{
		Path: i.Path, Op: nameOf(i.Op), Call: i.Call, Errno: int(i.Errno), Error: i.Detail, Side: status.Destination,
		Count: int(i.Count), First: i.First, Last: i.Last, Next: i.Next,
	}
	if i.Local {
		f.Side = status.Source
	}
	f.Hint = status.Hint(int(i.Errno), f.Side, i.Call)
	return f
}

// volume makes the directory source the loop's.
type volume struct {
	*source.Volume
	report func(string)
}

func (v volume) Next(ctx context.Context) (replicate.Batch, error) {
	b, err := v.Volume.Next(ctx)
	if b.Note != "" {
		v.report(b.Note)
	}
	out := replicate.Batch{
		Seen: b.Seen, Gone: b.Gone, AbsentMore: b.AbsentMore, Empty: b.Empty, CaughtUp: b.CaughtUp, At: b.At,
		Scan: replicate.Scan{
			Running: b.Scan.Running, Entries: b.Scan.Entries, Bytes: b.Scan.Bytes, Equal: b.Scan.Equal, EqualBytes: b.Scan.EqualBytes,
		},
	}
	for _, p := range b.Problems {
		out.Problems = append(out.Problems, replicate.Problem{At: p.At, Failure: status.Failure{
			Path: p.Path, Op: opRead, Call: p.Call, Errno: int(p.Errno), Error: p.Errno.Error(), Side: status.Source,
			Hint: status.Hint(int(p.Errno), status.Source, p.Call),
		}})
	}
	return out, err
}

func (v volume) Open(ctx context.Context, at change.Place, o change.Object) (replicate.Content, error) {
	return v.Volume.Open(ctx, at, o)
}

// CheckPatterns says which pattern of --exclude and --include cannot be understood.
func CheckPatterns(patterns []string) error {
	_, err := ignore.New(patterns...)
	return err
}

// matcher compiles the patterns of --exclude and --include.
func matcher(patterns []string) (source.Matcher, error) { return ignore.New(patterns...) }

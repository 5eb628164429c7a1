package worker

import (
	"context"

	"georep/internal/change"
	"georep/internal/index"
	"georep/internal/replicate"
	"georep/internal/source/brick"
	"georep/internal/status"
	"georep/internal/wire"
)

// brickIndex makes the index that of a brick's source.
type brickIndex struct{ *index.Index }

// Assume implements brick.Index.
func (x brickIndex) Assume(at change.Place, e change.Entry) error {
	return x.Update(func(tx *index.Tx) error { return tx.Put(at, e) })
}

// Forget implements brick.Index.
func (x brickIndex) Forget(at change.Place) error {
	return x.Update(func(tx *index.Tx) error { return tx.Delete(at) })
}

// brickSource makes a brick the loop's source.
type brickSource struct {
	*brick.Source
	w *attempt
}

// Next implements replicate.Source.
func (s brickSource) Next(ctx context.Context) (replicate.Batch, error) {
	b, err := s.Source.Next(ctx)
	if err != nil {
		return replicate.Batch{}, err
	}
	if b.Note != "" {
		s.w.notice(b.Note)
	}
	if b.Gap && !s.w.trusted {
		// What went in the gap is known to nobody but the secondary.
		s.w.gap = true
		if err := s.w.forget(false, 0); err != nil {
			return replicate.Batch{}, err
		}
		return replicate.Batch{}, errAgain
	}
	s.w.crawling(&b)
	out := replicate.Batch{
		Seen: b.Seen, Gone: b.Gone, AbsentMore: b.AbsentMore, CaughtUp: b.CaughtUp, At: b.At,
		Scan: replicate.Scan{Running: b.Crawling, Entries: b.Entries, Equal: b.Equal},
	}
	for _, p := range b.Problems {
		out.Problems = append(out.Problems, replicate.Problem{At: p.At, Failure: status.Failure{
			Path: p.Path, Op: opRead, Call: p.Call, Errno: int(p.Errno), Error: p.Errno.Error(), Side: status.Source,
			Hint: status.Hint(int(p.Errno), status.Source, p.Call),
		}})
	}
	return out, nil
}

// Open implements replicate.Source.
func (s brickSource) Open(ctx context.Context, at change.Place, o change.Object) (replicate.Content, error) {
	return s.Source.Open(ctx, at, o)
}

// crawling tells how changes are found now.
func (w *attempt) crawling(b *brick.Batch) {
	crawl := status.CrawlChangelog
	switch {
	case b.Crawling:
		crawl = status.CrawlHybrid
	case b.History:
		crawl = status.CrawlHistory
	}
	w.tell.Lock()
	same := w.state.Crawl == crawl
	w.tell.Unlock()
	if !same {
		w.report(func(r *BrickReport) { r.Crawl = crawl })
	}
}

// brickPeer is the connection as the loop of one brick is to see it: other workers use the same directories for the other files.
type brickPeer struct {
	*wire.Client
	w *attempt
}

// Do implements replicate.Peer. A directory that another worker has made holds nothing of this brick's that is not known, unless the whole
// is being compared.
func (p *brickPeer) Do(ctx context.Context, r *wire.Request, done func(change.Result)) error {
	if r.Op == change.Drop && p.w.b.IgnoreDelete && p.lasts(r) {
		done(change.Result{Status: change.Applied, Sec: r.Sec})
		return nil
	}
	dir := r.Op == change.Make && r.Object.Kind == change.Dir
	return p.Client.Do(ctx, r, func(res change.Result) {
		if dir && res.Status == change.Applied && !p.w.comparing.Load() {
			res.Created = true
		}
		done(res)
	})
}

// lasts says whether an object loses its last name, and not one of several.
func (p *brickPeer) lasts(r *wire.Request) bool {
	names, err := p.w.index.Names(r.Object.ID)
	return err != nil || len(names) <= 1
}

// Look implements replicate.Peer: it leaves out what other bricks have.
func (p *brickPeer) Look(ctx context.Context, dir wire.Dir, each func(wire.Entry) error) error {
	id := dir.Sec
	if id.IsZero() {
		id = change.StashID // the only directory without an identity of the primary
	}
	return p.Client.Look(ctx, dir, func(e wire.Entry) error {
		ours, err := p.w.source.Concerns(ctx, id, e.Name, e.Object.ID)
		if err != nil || !ours {
			return err
		}
		return each(e)
	})
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"georep/internal/change"
	"georep/internal/dial"
	"georep/internal/gluster"
	"georep/internal/index"
	"georep/internal/plan"
	"georep/internal/replicate"
	"georep/internal/source/brick"
	"georep/internal/source/changelog"
	"georep/internal/status"
	"georep/internal/wire"
)

// attempt is one time in which a brick is active.
type attempt struct {
	*brickWorker
	marks   marks
	source  *brick.Source
	link    *link
	fresh   bool // the secondary has nothing of this brick
	trusted bool // the index has all that the secondary has of this brick
	after   int64
	anchor  change.ID // see brick.Progress
	// comparing says that all is being compared with what the secondary has, of which the index does not know everything.
	comparing atomic.Bool
	closers   []func() error
}

// run mirrors the brick for as long as it is active.
func (w *attempt) run(ctx context.Context) (err error) {
	defer func() { err = closed(ctx, w.closers, err) }()
	w.report(func(r *BrickReport) { r.State = BrickInitializing })
	for _, step := range []func(context.Context) error{w.connect, w.bind, w.observe} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return w.loop(ctx)
}

func (w *attempt) closeLater(f func() error) { w.closers = append(w.closers, f) }

// connect starts the agent on the first host of the secondary that answers.
func (w *attempt) connect(ctx context.Context) error {
	var errs []error
	for _, host := range w.b.Hosts {
		err := w.connectTo(ctx, host)
		if err == nil {
			w.report(func(r *BrickReport) { r.Host = host })
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		errs = append(errs, fmt.Errorf("connect to %s: %w", host, err))
	}
	return &LinkError{Err: errors.Join(errs...), Transient: true}
}

func (w *attempt) connectTo(ctx context.Context, host string) error {
	start := w.b.Dial
	if start == nil {
		start = w.ssh
	}
	stream, err := start(ctx, host)
	if err != nil {
		return err
	}
	l := &link{stream: stream}
	l.client, err = wire.NewClient(ctx, stream, wire.ClientOptions{Version: w.b.Version, Compress: w.b.Compress, Limiter: w.limiter})
	if err != nil {
		return l.explain(err)
	}
	w.link = l
	w.closeLater(l.client.Close)
	return nil
}

func (w *attempt) ssh(ctx context.Context, host string) (Stream, error) {
	return dial.Command(ctx, dial.Options{
		SSH: w.b.SSH, User: w.b.User, Host: host, Port: w.b.Port, Args: w.b.Command(host), KeepGroup: w.b.KeepGroup,
	})
}

// session names what this worker has on the secondary.
func (w *attempt) session() string {
	return w.b.VolumeID.String() + "." + strconv.Itoa(w.b.Subvolume)
}

// The keys among the index's values.
const (
	keyClosed  = "closed"  // the last journal that is done with
	keyTrusted = "trusted" // the index has all that the secondary has of this brick
)

// bind learns what the secondary has of this brick, and from where on the journal is to be followed.
func (w *attempt) bind(ctx context.Context) error {
	r, err := w.link.client.Bind(ctx, w.session(), true)
	if err != nil {
		return &LinkError{Err: fmt.Errorf("look into the secondary volume: %w", w.explain(err)), Transient: true}
	}
	w.fresh = r.Empty
	last, _, err := w.index.Value(keyMark)
	if err != nil {
		return err
	}
	next, _, err := w.index.Value(keyNext)
	if err != nil {
		return err
	}
	switch {
	case r.Empty:
		err = w.forget(true, 0)
	case r.Mark == "" || r.Mark != string(last) && r.Mark != string(next):
		// Another brick with the same content was active since, or another program: the index says nothing of what it did.
		err = w.resume(r.Mark)
	default:
		w.anchor = anchorOf(r.Mark)
		err = w.restore()
	}
	if err != nil {
		return err
	}
	w.marks.note = w.note
	w.marks.next = w.marks.after()
	return w.index.Update(func(tx *index.Tx) error {
		setMarks(tx, r.Mark, w.marks.next)
		return nil
	})
}

// restore goes on where the last worker of this brick ended.
func (w *attempt) restore() error {
	trusted, _, err := w.index.Value(keyTrusted)
	if err != nil {
		return err
	}
	text, _, err := w.index.Value(keyClosed)
	if err == nil && len(text) > 0 {
		w.after, err = strconv.ParseInt(string(text), 10, 64)
	}
	w.trusted = len(trusted) > 0
	return err
}

// forget empties the index. trusted says that the secondary has nothing, so that it is complete all the same.
func (w *attempt) forget(trusted bool, after int64) error {
	w.trusted, w.after = trusted, after
	if err := w.index.Forget(); err != nil {
		return err
	}
	err := w.index.SetValue(keyClosed, strconv.AppendInt(nil, after, 10))
	if err != nil {
		return err
	}
	value := ""
	if trusted {
		value = "1"
	}
	return w.index.SetValue(keyTrusted, []byte(value))
}

// resume goes on where another worker ended: one of ours, as far as its mark tells, or one of the reference.
func (w *attempt) resume(mark string) error {
	after := int64(0)
	if w.gap {
		w.anchor = anchorOf(mark)
	} else if w.anchor = anchorOf(mark); !w.anchor.IsZero() {
		var found bool
		var err error
		if after, found, err = changelog.Find(w.b.Path+"/"+changelog.Dir, w.anchor); err != nil {
			return err
		}
		if !found {
			after = 0
		}
	} else if mark == "" {
		var err error
		if after, err = gluster.ReadStime(w.b.Path, w.b.VolumeID, w.b.SecondaryID); err != nil {
			return err
		}
	}
	if after == 0 {
		w.notice("the secondary holds something of this brick, and nothing says since when: all is compared")
	}
	return w.forget(false, after)
}

// anchorOf reads what note has written into a mark.
func anchorOf(mark string) change.ID {
	_, anchor, _ := strings.Cut(mark, ".")
	id, err := change.ParseID(anchor)
	if err != nil {
		return change.ID{}
	}
	return id
}

// note is what the mark of the next commit tells other workers.
func (w *attempt) note() string {
	if w.source == nil {
		return "." + w.anchor.String()
	}
	return "." + w.source.Acknowledged(time.Time{}).Anchor.String()
}

// observe starts the source.
func (w *attempt) observe(context.Context) (err error) {
	w.comparing.Store(!w.trusted && w.after == 0)
	w.source, err = brick.New(brick.Options{
		Path: w.b.Path, Index: brickIndex{w.index}, Volume: w.mount, After: w.after, Anchor: w.anchor, Trusted: w.trusted, Indirect: w.b.Indirect,
		Spread: w.b.Subvolumes > 1, XattrSum: plan.XattrSum, XtimeEvery: w.b.XtimeEvery, VolumeID: w.b.VolumeID,
	})
	if err == nil {
		w.closeLater(w.source.Close)
	}
	return err
}

// loop runs the engine.
func (w *attempt) loop(ctx context.Context) error {
	suspects, err := w.index.Intents()
	if err != nil {
		return fmt.Errorf("read what was in flight: %w", err)
	}
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop, end := context.WithCancelCause(ctx)
	defer end(nil)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer end(nil)
	defer cancel(nil)
	watchers.Go(func() {
		select {
		case <-w.link.client.Done():
			cancel(&LinkError{Err: w.link.explain(w.link.client.Wait()), Transient: true})
		case <-work.Done():
		}
	})
	watchers.Go(func() { end(w.watchActive(stop)) })
	w.report(func(r *BrickReport) { r.State = BrickActive })
	engine := replicate.New(replicate.Options{
		Source: brickSource{w.source, w}, Peers: []replicate.Peer{&brickPeer{Client: w.link.client, w: w}},
		Store: store{Index: w.index, marks: &w.marks}, Ledger: w.ledger, Report: w.event, Log: w.b.Log, Streams: w.b.SyncJobs, Fresh: w.fresh, SameIDs: true,
		Suspects: suspects, Guard: replicate.Guard{Allow: true}, Wire: func() (int64, int64) { return w.link.client.BytesOut(), w.link.client.BytesIn() },
		Events: status.EventsNone, Stop: stop.Done(), Patience: -1,
	})
	_, err = engine.Run(work)
	var peer *replicate.PeerError
	var broken *LinkError
	switch {
	case errors.As(context.Cause(work), &broken):
		return broken
	case errors.As(err, &peer) && ctx.Err() == nil:
		return &LinkError{Err: w.explain(err), Transient: true}
	case err == nil && ctx.Err() == nil:
		return context.Cause(stop)
	}
	return err
}

// explain says why a request failed: because the connection ended, if it did.
func (w *attempt) explain(err error) error {
	select {
	case <-w.link.client.Done():
		return w.link.explain(err)
	default:
		return err
	}
}

// event follows what the engine tells.
func (w *attempt) event(ev status.Event) {
	past := w.source.Acknowledged(ev.Caught)
	caught := ev.Kind == status.CaughtUp
	if caught {
		if err := w.acknowledge(past.Closed, ev.Snapshot.ScanRunning || ev.Snapshot.State == status.StateHalted); err != nil {
			w.notice("the progress cannot be noted: " + err.Error())
		}
	}
	taken := w.source.Taken()
	w.report(func(r *BrickReport) {
		r.Event, r.Snapshot = ev, ev.Snapshot
		r.Entries, r.Data, r.Metadata = taken.Entries-past.Entries, taken.Data-past.Data, taken.Metadata-past.Metadata
		if caught && !ev.Snapshot.ScanRunning {
			r.Synced = ev.Caught
			if at := w.b.Checkpoint; !at.IsZero() && r.Reached.IsZero() && !ev.Caught.Before(at) && ev.Snapshot.Failing == 0 {
				r.Reached = time.Now()
			}
		}
	})
}

// acknowledge notes durably up to which journal all is on the secondary, where the next worker and the reference look for it.
func (w *attempt) acknowledge(closed int64, partly bool) error {
	if partly {
		return nil
	}
	if w.comparing.Swap(false) || !w.trusted && w.after == 0 {
		w.trusted = true
		if err := w.index.SetValue(keyTrusted, []byte("1")); err != nil {
			return err
		}
	}
	if closed <= w.after {
		return nil
	}
	w.after = closed
	if err := w.index.SetValue(keyClosed, strconv.AppendInt(nil, closed, 10)); err != nil {
		return err
	}
	return gluster.WriteStime(w.b.Path, w.b.VolumeID, w.b.SecondaryID, closed-1) // the second in which a journal ends belongs to the next as well
}

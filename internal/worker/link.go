package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"georep/internal/change"
	"georep/internal/dial"
	"georep/internal/replicate"
	"georep/internal/status"
	"georep/internal/wire"
)

// Stream is a connection to a program that runs as the agent.
type Stream interface {
	io.ReadWriteCloser
	// Explain waits for the program's end and says why it did not serve; nil when it ended in good order.
	Explain() error
}

// link is one connection to the secondary.
type link struct {
	stream Stream
	client *wire.Client
}

// explain turns the end of a connection into a sentence for a person: what ssh or the agent said of it, else err itself.
func (l *link) explain(err error) error {
	var hello *wire.HelloError
	if errors.As(err, &hello) && hello.Problem != wire.HelloNothing && hello.Problem != wire.HelloNoise {
		return err
	}
	// What came instead of a greeting may be a login banner; why the program behind it is not there says more.
	if why := l.stream.Explain(); why != nil {
		return why
	}
	if err != nil {
		return err
	}
	return errors.New("the connection to the destination ended")
}

// dial starts the agent: over ssh, or here for a local destination.
func (o *Options) dial(ctx context.Context, args []string) (Stream, error) {
	if o.Dial != nil {
		return o.Dial(ctx, args)
	}
	d, err := o.remote()
	if err != nil {
		return nil, err
	}
	if o.Target.Host == "" {
		d.Local = append([]string{o.Executable}, args...)
	} else {
		program := o.RemoteGeorep
		if program == "" {
			program = "georep"
		}
		d.Args = append([]string{program}, args...)
	}
	return dial.Command(ctx, d)
}

// open makes one connection.
func (w *worker) open(ctx context.Context) (*link, error) {
	o := &w.o
	args := []string{"agent", "--root", o.Target.Path, "--session", w.session}
	if o.NoOwner {
		args = append(args, "--no-owner")
	}
	if o.DryRun {
		args = append(args, "--read-only")
	} else {
		args = append(args, "--run", strconv.FormatUint(w.runNumber, 10))
	}
	stream, err := o.dial(ctx, args)
	if err != nil {
		return nil, &LinkError{Err: err}
	}
	l := &link{stream: stream}
	l.client, err = wire.NewClient(ctx, stream, wire.ClientOptions{Version: o.Version, Compress: o.Compress, Limiter: w.limiter})
	if err != nil {
		return nil, &LinkError{Err: l.explain(err)}
	}
	w.linksMu.Lock()
	w.closeLater(l.client.Close)
	w.linksMu.Unlock()
	return l, nil
}

func (w *worker) connect(ctx context.Context) error {
	if err := w.chooseCiphers(ctx); err != nil {
		return err
	}
	l, err := w.open(ctx)
	if err != nil {
		return err
	}
	w.add(l)
	w.connected = true
	w.o.Interactive = false // one question is enough
	return w.judgeCiphers(l.client.Peer())
}

// joinAfter and joinBytes say when a mirror opens its further connections: when it has been at work for that long, or has sent that much, half
// of what the window of one connection holds. Each costs both hosts a key exchange, and what is done sooner needs none.
const (
	joinAfter = time.Second
	joinBytes = 1 << 20
	joinLook  = 20 * time.Millisecond // how often is looked
)

// shortLink is the round trip up to which the window of one connection of OpenSSH, 2 MiB, carries 100 MB/s; fewProcessors is the
// number of processors up to which the ends of one connection occupy all of them. Where both hold, a further connection only
// costs: the same work in more and smaller pieces.
const (
	shortLink     = 20 * time.Millisecond
	fewProcessors = 2
)

// connectMore opens the further connections while the loop runs, and hands them to it; fewer than wanted are no reason to stop.
func (w *worker) connectMore(ctx context.Context, join func(*link)) {
	n := w.o.SyncJobs
	if w.o.Target.Host == "" || w.o.DryRun {
		n = 1
	}
	began := time.Now()
	if err := w.links[0].client.Ping(ctx); err != nil {
		return // the link is gone, which others notice too
	}
	if time.Since(began) < shortLink && runtime.NumCPU() <= fewProcessors {
		return
	}
	if !w.laden(ctx) {
		return
	}
	var group sync.WaitGroup
	var one sync.Mutex // held to join
	var failed error
	made := 1
	for range n - 1 {
		group.Go(func() { // on a long link one after the other takes seconds
			l, err := w.openFurther(ctx)
			one.Lock()
			defer one.Unlock()
			if err != nil {
				failed = err
				return
			}
			made++
			w.add(l)
			join(l)
		})
	}
	group.Wait()
	if failed != nil && ctx.Err() == nil {
		w.notice(fmt.Sprintf("only %d of %d connections could be made: %v", made, n, failed))
	}
}

// laden waits until further connections are worth their making; false means that ctx has ended.
func (w *worker) laden(ctx context.Context) bool {
	first := w.links[0].client
	alarm := time.After(joinAfter)
	look := time.NewTicker(joinLook)
	defer look.Stop()
	for first.BytesOut() < joinBytes {
		select {
		case <-look.C:
		case <-alarm:
			return true
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// openFurther makes a connection besides the first.
func (w *worker) openFurther(ctx context.Context) (*link, error) {
	l, err := w.open(ctx)
	if err != nil {
		return nil, err
	}
	_, err = l.client.Bind(ctx, w.session, false)
	return l, err
}

func (w *worker) add(l *link) {
	w.linksMu.Lock()
	defer w.linksMu.Unlock()
	w.links = append(w.links, l)
}

// traffic is what all connections have sent and received, in bytes.
func (w *worker) traffic() (out, in int64) {
	w.linksMu.Lock()
	defer w.linksMu.Unlock()
	for _, l := range w.links {
		out, in = out+l.client.BytesOut(), in+l.client.BytesIn()
	}
	return out, in
}

// greet tells who answers.
func (w *worker) greet(context.Context) error {
	peer := w.links[0].client.Peer()
	w.report(status.Event{Kind: status.Connected, Time: time.Now(), Text: "georep " + peer.Version + " at " + w.place()})
	return nil
}

func (w *worker) place() string {
	if w.o.Target.Host == "" {
		return w.o.Target.Path
	}
	return w.o.Target.Host + ":" + w.o.Target.Path
}

func (w *worker) notice(text string) {
	w.report(status.Event{Kind: status.Notice, Time: time.Now(), Text: text})
}

// bind makes sure that the destination is this mirror's, or may become it.
func (w *worker) bind(ctx context.Context) error {
	if w.o.DryRun {
		return w.bindDry(ctx)
	}
	r, err := w.links[0].client.Bind(ctx, w.session, w.o.AllowDelete)
	var refused *wire.RemoteError
	if errors.As(err, &refused) {
		return fmt.Errorf("the destination %s cannot be used: %s", w.place(), refused.Detail)
	}
	if err != nil {
		return fmt.Errorf("claim the destination %s: %w", w.place(), err)
	}
	switch {
	case r.Other != "" && !r.Bound:
		return fmt.Errorf("%w: the destination %s belongs to another mirror (session %s): choose another destination, or take it over with --allow-delete", ErrHalted, w.place(), r.Other)
	case !r.Bound:
		return fmt.Errorf("%w: the destination %s is not empty and was not filled by georep: choose an empty directory, or make it equal to the source (what the source does not have is removed) with --allow-delete", ErrHalted, w.place())
	}
	if err := w.noteClock(r.TimeStep); err != nil {
		return err
	}
	w.bound.fresh = r.Empty
	n, _ := w.index.Totals()
	if !r.Empty && n == 0 {
		// What waited in the stash for somebody who knew of it waits for nobody now.
		if err := w.index.Doubt([]change.ID{change.StashID}); err != nil {
			return err
		}
	}
	if r.Empty && n > 0 {
		w.notice("the destination is empty: everything is sent again")
		if err := w.forget(); err != nil {
			return err
		}
	}
	return w.checkMark(ctx, r.Mark)
}

// bindDry learns without changing anything whose the destination is. If it would have to be taken over first, the dry run goes on
// as if that had been agreed to.
func (w *worker) bindDry(ctx context.Context) error {
	r, err := w.links[0].client.Bind(ctx, w.session, false)
	if err != nil {
		return fmt.Errorf("look whose the destination %s is: %w", w.place(), err)
	}
	w.bound.fresh = r.Empty
	if err := w.recallClock(); err != nil {
		return err
	}
	switch {
	case r.Other != "" && !r.Bound:
		w.notice(fmt.Sprintf("the destination %s belongs to another mirror (session %s), so a run would ask for --allow-delete first. With it, this would be done:", w.place(), r.Other))
	case !r.Bound && !r.Empty:
		w.notice(fmt.Sprintf("the destination %s is not empty and was not filled by georep, so a run would ask for --allow-delete first. With it, this would be done:", w.place()))
	case r.Empty:
		return w.forget()
	default:
		return nil
	}
	w.o.AllowDelete = true // it lists what would be deleted; nothing is
	return w.forget()
}

// forget empties the index: it says nothing of the ends as they are now. It is built again by comparing.
func (w *worker) forget() error {
	root, ok, err := w.index.Get(change.Place{})
	if err != nil || !ok {
		return err
	}
	w.forgot = true
	return store{Index: w.index}.Commit(nil, []replicate.Effect{{At: change.Place{}, Tree: root.ID, Doubt: change.StashID}}, "")
}

// suspects lists the directories that must be looked at before anything else: those that a crash left in doubt, and the
// root of a destination that is filled while the index knows nothing.
func (w *worker) suspects() ([]change.ID, error) {
	left, err := w.index.Intents()
	if err != nil {
		return nil, fmt.Errorf("read what was in flight: %w", err)
	}
	return left, nil
}

func (w *worker) engineOptions(ctx context.Context, suspects []change.ID) replicate.Options {
	return replicate.Options{
		Source: volume{w.volume, w.notice}, Peers: []replicate.Peer{w.links[0].client}, Store: store{w.index, &w.marks}, Ledger: w.ledger,
		Report: w.report, Log: w.o.Log, Once: w.o.Once, DryRun: w.o.DryRun, Streams: max(2, w.o.SyncJobs), Patience: w.o.Patience, Carrier: w.carrier(),
		Whole: w.o.Target.Host == "" && w.o.Dial == nil,
		Fresh: w.bound.fresh, TimeStep: w.bound.timeStep, Suspects: suspects, Events: w.volume.Events().String(), Stop: ctx.Done(),
		Guard: replicate.Guard{Allow: w.o.AllowDelete, Percent: w.o.DeletePercent, Entries: w.o.DeleteEntries, Halted: w.bound.halted},
		Wire: func() (out, in int64) {
			out, in = w.traffic()
			if w.carry != nil {
				out += w.carry.Carried()
			}
			return out, in
		},
	}
}

// IndexFile is where the index of a mirror is, below its state directory.
func IndexFile(stateDir string) string { return filepath.Join(stateDir, "index.db") }

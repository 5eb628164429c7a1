// Package replicate is the loop: take what the source saw, plan it, send it, await the answers, make them durable, advance.
//
// Batches overlap: while one is being answered the next is planned and sent, as long as they speak of different objects;
// whatever cannot overlap (directories that move, deletions, an object that is already in flight) waits until the
// pipeline is empty. Applied declarations live in an overlay until the secondary has synced; only then does the store learn
// of them, in one transaction a group, so that the mark never passes what is safe. The directories that a batch touches are
// noted durably before anything is sent (intents): after a crash they are looked at, and whatever an unacknowledged
// declaration left there is found.
//
// One bad entry stops nothing: what fails goes to the ledger and is observed again later. Only a broken link, a broken
// store or a broken source ends Run; it never reconnects.
package replicate

import (
	"context"
	"log/slog"
	"time"

	"georep/internal/change"
	"georep/internal/delta"
	"georep/internal/status"
	"georep/internal/wire"
)

// Source is where changes come from. Next is called by one goroutine, the rest by any, at any time.
type Source interface {
	// Next waits for observations. Parents come before children; absences come last, are authoritative, and come when all
	// that was queued before them has been handed out.
	Next(ctx context.Context) (Batch, error)
	// Open gives the content of the file that is at a place, or fs.ErrNotExist when o is not there any more.
	Open(ctx context.Context, at change.Place, o change.Object) (Content, error)
	// Again asks for places to be observed once more.
	Again(places ...change.Place)
	// Rescan asks for a directory to be compared with the store, its entries and what is new below.
	Rescan(dir change.ID)
}

// Content is an open file of the source. The caller closes it.
type Content interface {
	delta.Input
	Size() int64
	// Unchanged is nil as long as the file is what it was when it was observed.
	Unchanged() error
	Close() error
}

// Batch is what a source hands over at once.
type Batch struct {
	Seen     []change.Observation
	Problems []Problem
	// Gone are places that were asked for again and are not in the tree any more.
	Gone []change.Place
	// AbsentMore says that further absences belong to the same sweep; they are judged together.
	AbsentMore bool
	// Empty says that the source's root holds nothing at all.
	Empty    bool
	Scan     Scan
	CaughtUp bool      // all that happened before At has been handed out
	At       time.Time // by the source's clock
}

// Scan tells how far a full scan is.
type Scan struct {
	Running        bool
	Entries, Bytes int64 // compared so far in this pass; bytes are the sizes of files
	// Equal and EqualBytes are how many of these were as the store has them, and are not handed out.
	Equal, EqualBytes int64
}

// Problem is an entry that the source could not read.
type Problem struct {
	At      change.Place
	Failure status.Failure
}

// Peer is one connection to the secondary. All methods may be called at once.
type Peer interface {
	// Do sends a request and calls done once with the answer; it blocks only to hold the caller back. When the link
	// breaks done is not called. r and its content are the caller's again when Do has returned.
	Do(ctx context.Context, r *wire.Request, done func(change.Result)) error
	// Write sends the content of a file and waits for the answer.
	Write(ctx context.Context, r *wire.Request, c wire.Content, o wire.WriteOptions) (change.Result, error)
	// Look lists a directory.
	Look(ctx context.Context, dir wire.Dir, each func(wire.Entry) error) error
	// Commit makes all that was answered before safe, and the mark with it, if that is not empty. purge lets the secondary forget what it kept for later.
	Commit(ctx context.Context, mark string, purge bool) error
}

// Carrier brings content to the secondary by other means than a Peer, as a part of which Peer.Write makes the file. All methods may
// be called at once.
type Carrier interface {
	// Carry brings over the content of files, and says whether it seems to have arrived. progress is told of bytes that arrived, in
	// the files' order.
	Carry(ctx context.Context, files []Carried, progress func(n int64)) bool
	// Checked is told how many bytes of a carried file of that size had to be sent after all.
	Checked(size, sent int64)
}

// Carried is a file to be carried.
type Carried struct {
	ID      change.ID
	Content Content
}

// Effect is one change of the store.
type Effect struct {
	At    change.Place
	Entry *change.Entry // nil: nothing is there any more
	Tree  change.ID     // not zero: nor anything below this directory
	Doubt change.ID     // not zero: this directory must be looked at, after a crash as well
}

// Store is what the secondary has acknowledged (the index). Get, Names and List may be called at any time.
type Store interface {
	Get(at change.Place) (change.Entry, bool, error)
	Names(id change.ID) ([]change.Place, error)
	// List goes through the entries of a directory behind a name, in order.
	List(dir change.ID, after string, fn func(name string, e change.Entry) error) error
	// Count counts the entries below a directory, up to a limit.
	Count(dir change.ID, limit int64) (int64, error)
	// Total is the number of all entries, and the bytes of their content.
	Total() (entries, bytes int64, err error)
	// Begin notes durably that a batch is about to touch directories.
	Begin(gen uint64, dirs []change.ID) error
	// Mark is what the secondary is to be told with the next commit. It was noted durably when that before was ended.
	Mark() string
	// Commit applies effects and ends batches, durably and at once. mark is what the secondary was told; "" when it was not.
	Commit(gens []uint64, effects []Effect, mark string) error
	// Reconcile applies effects and ends the doubt in which a crash left directories, durably and at once.
	Reconcile(effects []Effect, dirs []change.ID) error
}

// Failing is a place with what failed there.
type Failing struct {
	At change.Place
	status.Failure
}

// Ledger holds the entries that could not be applied.
type Ledger interface {
	// Fail notes failures durably, all at once and in their order, and completes them, where they are, with their counts and times.
	Fail(items []Failing) error
	// Healed removes entries, all at once, and tells what those were that it had.
	Healed(places []change.Place) ([]Failing, error)
	// Due lists places whose next try has come, and when the next after them is due (zero: none).
	Due(now time.Time, max int) ([]change.Place, time.Time, error)
	// PutOff moves the next try of places on, which are being tried now.
	PutOff(places ...change.Place) error
	Count() int
}

// Options say how a loop works.
type Options struct {
	Source Source
	Peers  []Peer // at least one
	Store  Store
	Ledger Ledger
	Report func(status.Event) // called from one goroutine at a time; must not block for long
	Log    *slog.Logger
	Once   bool // return when all is acknowledged, or has failed a few times
	DryRun bool // plans are reported, nothing is sent
	// Streams is how many large files travel at once.
	Streams int
	// Whole says that bytes cost nothing: a small file that changed is sent whole, which takes less work than to find what changed.
	Whole bool
	// Patience is how long what else is to be done waits for large content that is under way; 0: 200 ms, less: for as long as it
	// takes, because the secondary writes content in place.
	Patience time.Duration
	// Carrier, if given, brings over content that the secondary has nothing of, before Peer.Write does the rest.
	Carrier Carrier
	// Fresh says that the secondary's root is known to be empty.
	Fresh bool
	// TimeStep is in which steps the secondary keeps times; 0: exactly, or not known.
	TimeStep time.Duration
	// SameIDs says that an object has the same identity on both sides: what a look finds is known by it.
	SameIDs bool
	// Suspects are directories whose state on the secondary is not known, from before a crash.
	Suspects []change.ID
	Guard    Guard
	// Wire gives the bytes sent and received so far.
	Wire   func() (out, in int64)
	Events string // status.EventsFanotify and so on
	// Stop, when closed, ends Run in good order: what is in flight is finished and committed.
	Stop <-chan struct{}
}

// Guard decides when deletions need a person.
type Guard struct {
	Allow   bool    // a person has agreed
	Percent float64 // of all entries, 0 to 100
	Entries int64   // and more than this number
	Halted  string  // why deletions are halted from the start; "" they are not
}

// Outcome is how a run ended.
type Outcome struct {
	Snapshot status.Snapshot
	Halted   string // why deletions were held back; "" they were not
}

// PeerError means that a peer could not be asked, or gave no answer: its link broke, or it cannot make anything safe.
type PeerError struct {
	Doing string
	Err   error
}

func (p *PeerError) Error() string { return p.Doing + ": " + p.Err.Error() }

// Unwrap gives the cause.
func (p *PeerError) Unwrap() error { return p.Err }

// inlineMax is the size in bytes up to which a file's content travels inside its request.
const inlineMax = 128 << 10

// deltaMin is the size in bytes up to which what changed in a file is not worth being looked for: the signature and the frames for it
// have about as many bytes.
const deltaMin = 512

// smallStreams is how many small files are compared with their old content at once, for each of Options.Streams. Each takes two round trips, which
// on a long link are many files' time; it holds two open files but no content while it waits.
const smallStreams = 64

// Package wire is the protocol between the worker on the primary and the agent on the secondary, both ends of it.
//
// It runs over any stream of bytes, in practice the standard input and output of an agent that ssh started. A line of
// text each way comes first (see Greeting), then frames. The worker's end is Client, the agent's is Serve with a Handler
// that carries the requests out. Many requests are under way at once and are answered in any order; docs/protocol.md has
// the frames, the limits and the rules by which versions get along.
package wire

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"georep/internal/change"
	"georep/internal/delta"
)

// Protocol is the version of the protocol that this program speaks best, and Oldest the oldest that it still speaks.
// Whoever raises Protocol keeps speaking the version before it.
const (
	Protocol = 1
	Oldest   = 1
)

// Limits of version 1. Both ends rely on them: a peer that goes beyond is refused.
const (
	// MaxFrame bounds the payload of one frame, in bytes.
	MaxFrame = 1 << 20
	// MaxMessage bounds one message, which may come in several frames, in bytes.
	MaxMessage = 8 << 20
	// MaxRequests bounds the requests that wait for their answer on one connection.
	MaxRequests = 4096
	// MaxRequestBytes bounds the bytes of these requests, with something for each name and attribute (see requestSize). It
	// is more than any one request can have.
	MaxRequestBytes = 16 << 20
	// MaxNames bounds the further names of a file in one request.
	MaxNames = 100_000
	// MaxWrites bounds the content streams that are open on one connection.
	MaxWrites = 128
	// StreamWindow bounds the bytes of content frames that one stream may send ahead of its reader, and ContentWindow those of
	// all streams of a connection.
	StreamWindow  = 4 << 20
	ContentWindow = 32 << 20
	// MaxLooks bounds the directories that are listed at once on one connection, and LookWindow the frames of entries that
	// one listing may send ahead of its reader.
	MaxLooks   = 8
	LookWindow = 16
	// MaxCalls bounds the commits, binds and pings that wait for their answer on one connection.
	MaxCalls = 16
	// MaxSignature bounds the signature of one file, in bytes. Blocks of a basis are made larger until it fits.
	MaxSignature = 64 << 20
	// MaxPath bounds the path of a directory, in bytes.
	MaxPath = 1 << 20
	// MaxTarget bounds the target of a symlink, in bytes (the kernel's PATH_MAX less the final NUL).
	MaxTarget = 4095
	// MaxXattr bounds one extended attribute's value, in bytes, as the kernel does.
	MaxXattr = 64 << 10
)

// How a silent link is found out. Both ends send a heartbeat when they have nothing else to send.
const (
	heartbeatEvery = 10 * time.Second
	silenceLimit   = 6 // heartbeats that must be missed, so 60 s
	farewellWait   = time.Second
)

// Errors that callers tell apart.
var (
	// ErrClosed means that the connection was closed on this side.
	ErrClosed = errors.New("the connection is closed")
	// ErrSilent means that nothing was heard from the other side for a minute, or what ServerOptions say.
	ErrSilent = errors.New("nothing was heard from the other side for too long: the connection is taken for dead")
	// ErrStale means that a directory is not the object that it was expected to be.
	ErrStale = errors.New("the directory is not the expected object")
	// ErrAborted means that the sender gave up a content stream, for example because the file changed while it was read.
	ErrAborted = errors.New("the sender gave up this content")
	// ErrProtocol means that the other side did not keep to the protocol.
	ErrProtocol = errors.New("protocol error")
)

func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}

// RemoteError is the answer of the agent to a look, a commit or a bind that it could not carry out.
type RemoteError struct {
	Errno  syscall.Errno // 0 when the cause is not an errno
	Detail string        // for a person, never empty
}

func (e *RemoteError) Error() string { return "the secondary answered: " + e.Detail }

// Unwrap gives the errno, if there is one.
func (e *RemoteError) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return e.Errno
}

// Dir addresses a directory of the secondary: its path relative to the root ("" is the root) and its identity there. The
// agent finds it by either, and refuses it as stale when what it finds has not the identity Sec (a zero Sec fits any).
type Dir struct {
	Path string
	Sec  change.ID
}

// Ref addresses one name in a directory of the secondary. The zero Ref is the root itself.
type Ref struct {
	Dir  Dir
	Name string
}

// IsRoot says whether r addresses the root.
func (r Ref) IsRoot() bool { return r.Name == "" }

// Path is the path of r relative to the root.
func (r Ref) Path() string { return change.Join(r.Dir.Path, r.Name) }

// Request is a declaration (see change.Declaration) with its places resolved to where they are on the secondary.
type Request struct {
	Op        change.Op
	At        Ref
	From      Ref           // Link, Move
	Names     []Ref         // Write: the further names of the file
	Sec, Over change.ID     // as in change.Declaration
	Object    change.Object // the state wanted; Object.ID is the identity on the primary
	Replace   bool          // whatever occupies At may be replaced
	MayRemove bool          // a directory that is in the way, or entries that nobody declared, may be removed
	Inline    []byte        // the whole content of a small file, when HasInline
	HasInline bool
	Hash      [16]byte // xxh3-128 of the content with HashSeed, when HasHash
	HasHash   bool
	HashSeed  uint64
	// Partial makes Write ask for what the agent has of the content, whatever its size: part of it came by other means. It does
	// not travel.
	Partial bool
}

// Cost is the most bytes that r can take on the wire before compression, and little more than it does. It does no work that
// grows with content.
func (r *Request) Cost() int {
	n := 300 + len(r.At.Dir.Path) + len(r.At.Name) + len(r.From.Dir.Path) + len(r.From.Name) + len(r.Object.Target) + len(r.Inline)
	for i := range r.Names {
		n += 32 + len(r.Names[i].Dir.Path) + len(r.Names[i].Name)
	}
	for i := range r.Object.Xattrs {
		n += 12 + len(r.Object.Xattrs[i].Name) + len(r.Object.Xattrs[i].Value)
	}
	return n
}

// Content is an open file of the primary.
type Content interface {
	delta.Input
	// Size is the number of bytes that shall be sent. The content is read up to it and no further.
	Size() int64
	// Unchanged is asked when all was read. An error means that the content that was read may be a mix of old and new.
	Unchanged() error
}

// Entry is one line of a directory's listing on the secondary. Object.ID is the identity there.
type Entry struct {
	Name   string
	Object change.Object
}

// BindResult says what the agent found at its root.
type BindResult struct {
	Empty bool   // there was nothing in it
	Bound bool   // it carries the mark of this session now
	Other string // the session that it belongs to, when that is another one
	Mark  string // of the last commit that had one; "": there is none, or Bind has just made it this session's
	// TimeStep is in which steps the file system keeps times; what lies between two is cut off. 0: exactly, or not known.
	TimeStep time.Duration
}

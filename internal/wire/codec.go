package wire

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"georep/internal/change"
	"georep/internal/wire/wirepb"
)

// The texts of results are bounded, in bytes, and so are error numbers (as the kernel bounds them).
const (
	maxCall   = 64
	maxDetail = 4 << 10
	// MaxMark is the most bytes that the mark of a commit has.
	MaxMark = 64
	// MaxTimeStep is the longest step of a clock that is believed.
	MaxTimeStep = time.Minute
	maxErrno    = 4095

	smallMessage  = 64 << 10
	maxEntryParts = 64 << 10
)

// appendMessage appends the encoding of m to dst.
func appendMessage(dst []byte, m proto.Message) ([]byte, error) {
	dst, err := proto.MarshalOptions{}.MarshalAppend(dst, m)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	return dst, nil
}

// occurrences counts the fields at a path of field numbers in an encoded message, as far as that can be read. Decoding makes a
// structure for each, so a message of millions of empty ones would take a hundred times its size.
func occurrences(b []byte, path ...protowire.Number) int {
	n := 0
	for len(b) > 0 {
		number, kind, tag := protowire.ConsumeTag(b)
		if tag < 0 {
			return n
		}
		length := protowire.ConsumeFieldValue(number, kind, b[tag:])
		if length < 0 {
			return n
		}
		if number == path[0] && kind == protowire.BytesType {
			if len(path) == 1 {
				n++
			} else if value, ok := protowire.ConsumeBytes(b[tag:]); ok >= 0 {
				n += occurrences(value, path[1:]...)
			}
		}
		b = b[tag+length:]
	}
	return n
}

// checkRequest refuses requests of more parts than can be meant. Small messages cannot have many. The request is the message, or
// within it at a path of field numbers.
func checkRequest(payload []byte, within ...protowire.Number) error {
	if len(payload) <= smallMessage {
		return nil
	}
	if n := occurrences(payload, append(within, 8)...); n > MaxNames {
		return protocolError("a request has %d names, more than %d", n, MaxNames)
	}
	if n := occurrences(payload, append(within, 11, 8)...); n > maxXattrs {
		return protocolError("a request has %d extended attributes, more than %d", n, maxXattrs)
	}
	return nil
}

// checkEntries does the same for listings.
func checkEntries(payload []byte) error {
	if len(payload) <= smallMessage {
		return nil
	}
	if n := occurrences(payload, 1) + occurrences(payload, 1, 2, 8); n > maxEntryParts {
		return protocolError("a listing has %d parts in one message, more than %d", n, maxEntryParts)
	}
	return nil
}

func decodeMessage(payload []byte, m proto.Message, what string) error {
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(payload, m); err != nil {
		return protocolError("%s cannot be read: %v", what, err)
	}
	return nil
}

// idBytes is an identity as it is sent: an inode's number comes first in it, so most begin with zeros, which are left out.
func idBytes(id *change.ID) []byte {
	for i := range id {
		if id[i] != 0 {
			return id[i:]
		}
	}
	return nil
}

func parseID(id *change.ID, b []byte) error {
	if len(b) > len(id) {
		return fmt.Errorf("an identity has %d bytes", len(b))
	}
	copy(id[len(id)-len(b):], b)
	return nil
}

// requestMessage makes the message of r, which shares the bytes of r.
func requestMessage(r *Request, transfer *wirepb.Transfer) *wirepb.Request {
	m := &wirepb.Request{
		Op:     uint32(r.Op),
		AtPath: []byte(r.At.Dir.Path), AtSec: idBytes(&r.At.Dir.Sec), AtName: []byte(r.At.Name),
		Sec: idBytes(&r.Sec), Over: idBytes(&r.Over),
		Object:  objectMessage(&r.Object),
		Replace: r.Replace, MayRemove: r.MayRemove,
		HasInline: r.HasInline, Inline: r.Inline,
		Transfer: transfer,
	}
	m.Object.CtimeSec, m.Object.CtimeNsec = 0, 0 // nobody can set it
	if !r.From.IsRoot() {
		m.FromPath, m.FromSec, m.FromName = []byte(r.From.Dir.Path), idBytes(&r.From.Dir.Sec), []byte(r.From.Name)
	}
	if r.HasHash {
		m.Hash, m.HashSeed = r.Hash[:], r.HashSeed
	}
	for i := range r.Names {
		n := &r.Names[i]
		m.Names = append(m.Names, &wirepb.Ref{Path: []byte(n.Dir.Path), Sec: idBytes(&n.Dir.Sec), Name: []byte(n.Name)})
	}
	return m
}

// parseRequest reads and checks a request. Nothing of it shares the payload's bytes.
func parseRequest(payload []byte) (*Request, *wirepb.Transfer, error) {
	if err := checkRequest(payload); err != nil {
		return nil, nil, err
	}
	m := new(wirepb.Request)
	if err := decodeMessage(payload, m, "a request"); err != nil {
		return nil, nil, err
	}
	r, err := requestOf(m)
	return r, m.Transfer, err
}

// requestOf checks a request that was decoded.
func requestOf(m *wirepb.Request) (*Request, error) {
	r := &Request{
		Replace: m.Replace, MayRemove: m.MayRemove,
		HasInline: m.HasInline, Inline: m.Inline,
		HashSeed: m.HashSeed, HasHash: len(m.Hash) > 0,
	}
	if m.Op > uint32(change.Times) {
		return nil, protocolError("operation %d is unknown", m.Op)
	}
	r.Op = change.Op(m.Op)
	if r.HasHash && len(m.Hash) != len(r.Hash) {
		return nil, protocolError("a hash has %d bytes", len(m.Hash))
	}
	copy(r.Hash[:], m.Hash)
	r.At.Dir.Path, r.At.Name = string(m.AtPath), string(m.AtName)
	r.From.Dir.Path, r.From.Name = string(m.FromPath), string(m.FromName)
	err := errors.Join(parseID(&r.At.Dir.Sec, m.AtSec), parseID(&r.From.Dir.Sec, m.FromSec),
		parseID(&r.Sec, m.Sec), parseID(&r.Over, m.Over), parseObject(&r.Object, m.Object))
	if len(m.Names) > 0 {
		r.Names = make([]Ref, len(m.Names))
	}
	for i, n := range m.Names {
		r.Names[i] = Ref{Dir: Dir{Path: string(n.Path)}, Name: string(n.Name)}
		err = errors.Join(err, parseID(&r.Names[i].Dir.Sec, n.Sec))
		if err != nil {
			break
		}
	}
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		return nil, protocolError("a request is not valid: %v", err)
	}
	return r, nil
}

// parseFinish reads and checks the end of a content stream of size bytes. final is nil when the file is to be made as it was said
// at the beginning. steps shares the payload's bytes.
func parseFinish(payload []byte, size int64) (sum [16]byte, steps []byte, final *Request, err error) {
	if err := checkRequest(payload, 3); err != nil {
		return sum, nil, nil, err
	}
	m := new(wirepb.Finish)
	if err := decodeMessage(payload, m, "the end of a content stream"); err != nil {
		return sum, nil, nil, err
	}
	if len(m.Sum) != len(sum) {
		return sum, nil, nil, protocolError("a hash has %d bytes", len(m.Sum))
	}
	copy(sum[:], m.Sum)
	if m.Request == nil {
		return sum, m.Steps, nil, nil
	}
	if final, err = requestOf(m.Request); err != nil {
		return sum, nil, nil, err
	}
	if final.Object.Kind != change.File || final.HasInline || final.Object.Size != size || m.Request.Transfer != nil {
		return sum, nil, nil, protocolError("a content stream ends as another one than it began")
	}
	return sum, m.Steps, final, nil
}

func objectMessage(o *change.Object) *wirepb.Object {
	m := &wirepb.Object{
		Id: idBytes(&o.ID), Kind: uint32(o.Kind), Mode: o.Mode, Uid: o.UID, Gid: o.GID,
		MtimeSec: o.Mtime.Sec, MtimeNsec: o.Mtime.Nsec, CtimeSec: o.Ctime.Sec, CtimeNsec: o.Ctime.Nsec,
		HasXattrs: o.HasXattrs, Size: o.Size, Blocks: o.Blocks, Rdev: o.Rdev, Nlink: o.Nlink,
	}
	if o.Target != "" {
		m.Target = []byte(o.Target)
	}
	if len(o.Xattrs) > 0 {
		m.Xattrs = make([]*wirepb.Xattr, len(o.Xattrs))
	}
	for i := range o.Xattrs {
		m.Xattrs[i] = &wirepb.Xattr{Name: []byte(o.Xattrs[i].Name), Value: o.Xattrs[i].Value}
	}
	return m
}

// parseObject fills o from m, which may be nil. Only what does not fit the types is refused here.
func parseObject(o *change.Object, m *wirepb.Object) error {
	if m == nil {
		return nil
	}
	if err := parseID(&o.ID, m.Id); err != nil {
		return err
	}
	if m.Kind > 255 {
		return fmt.Errorf("kind %d is unknown", m.Kind)
	}
	if len(m.Xattrs) > maxXattrs {
		return fmt.Errorf("%d extended attributes are more than %d", len(m.Xattrs), maxXattrs)
	}
	o.Kind = change.Kind(m.Kind)
	o.Mode, o.UID, o.GID = m.Mode, m.Uid, m.Gid
	o.Mtime = change.Time{Sec: m.MtimeSec, Nsec: m.MtimeNsec}
	o.Ctime = change.Time{Sec: m.CtimeSec, Nsec: m.CtimeNsec}
	o.HasXattrs, o.Size, o.Blocks, o.Rdev, o.Nlink = m.HasXattrs, m.Size, m.Blocks, m.Rdev, m.Nlink
	o.Target = string(m.Target)
	if len(m.Xattrs) > 0 {
		o.Xattrs = make([]change.Xattr, len(m.Xattrs))
	}
	for i, x := range m.Xattrs {
		o.Xattrs[i] = change.Xattr{Name: string(x.Name), Value: x.Value}
	}
	return nil
}

func resultMessage(r *change.Result, mismatch bool) *wirepb.Result {
	m := &wirepb.Result{Status: uint32(r.Status), Sec: idBytes(&r.Sec), Created: r.Created, Errno: uint32(r.Errno), Mismatch: mismatch}
	if r.Call != "" {
		m.Call = []byte(r.Call[:min(len(r.Call), maxCall)])
	}
	if r.Detail != "" {
		m.Detail = []byte(r.Detail[:min(len(r.Detail), maxDetail)])
	}
	return m
}

// parseResult reads and checks a result.
func parseResult(payload []byte) (r change.Result, mismatch bool, err error) {
	m := new(wirepb.Result)
	if err := decodeMessage(payload, m, "a result"); err != nil {
		return r, false, err
	}
	if m.Status < uint32(change.Applied) || m.Status > uint32(change.Failed) || m.Errno > maxErrno {
		return r, false, protocolError("a result has status %d and error number %d", m.Status, m.Errno)
	}
	if err := parseID(&r.Sec, m.Sec); err != nil {
		return r, false, protocolError("a result is not valid: %v", err)
	}
	r.Status, r.Created, r.Errno = change.Status(m.Status), m.Created, syscall.Errno(m.Errno)
	r.Call, r.Detail = clean(string(m.Call), maxCall), clean(string(m.Detail), maxDetail)
	return r, m.Mismatch, nil
}

// answerMessage makes the end of a look, a commit or a bind from the handler's error.
func answerMessage(err error) *wirepb.Answer {
	if err == nil {
		return &wirepb.Answer{}
	}
	text := err.Error()
	m := &wirepb.Answer{Failed: true, Stale: errors.Is(err, ErrStale), Detail: []byte(text[:min(len(text), maxDetail)])}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		m.Errno = uint32(errno)
	}
	return m
}

// parseAnswer reads an answer; failed is what the agent failed with, err a breach of the protocol.
func parseAnswer(payload []byte) (b BindResult, failed, err error) {
	m := new(wirepb.Answer)
	if err := decodeMessage(payload, m, "an answer"); err != nil {
		return b, nil, err
	}
	if m.Errno > maxErrno {
		return b, nil, protocolError("an answer has error number %d", m.Errno)
	}
	b = BindResult{Empty: m.Empty, Bound: m.Bound, Other: clean(string(m.Other), maxDetail), Mark: clean(string(m.Mark), MaxMark)}
	if m.TimeStep <= uint64(MaxTimeStep) {
		b.TimeStep = time.Duration(m.TimeStep)
	}
	if !m.Failed {
		return b, nil, nil
	}
	detail := clean(string(m.Detail), maxDetail)
	if detail == "" {
		detail = syscall.Errno(m.Errno).Error()
	}
	failed = &RemoteError{Errno: syscall.Errno(m.Errno), Detail: detail}
	if m.Stale {
		failed = fmt.Errorf("%w: %w", ErrStale, failed)
	}
	return b, failed, nil
}

func entryMessage(e *Entry) *wirepb.Entry {
	return &wirepb.Entry{Name: []byte(e.Name), Object: objectMessage(&e.Object)}
}

// parseEntries reads and checks the entries of a frame.
func parseEntries(payload []byte) ([]Entry, error) {
	if err := checkEntries(payload); err != nil {
		return nil, err
	}
	m := new(wirepb.Entries)
	if err := decodeMessage(payload, m, "a listing"); err != nil {
		return nil, err
	}
	entries := make([]Entry, len(m.Entries))
	for i, p := range m.Entries {
		if p.Object == nil {
			return nil, protocolError("an entry of a listing says nothing of its object")
		}
		e := &entries[i]
		e.Name = string(p.Name)
		err := parseObject(&e.Object, p.Object)
		if err == nil {
			err = validateEntry(e)
		}
		if err != nil {
			return nil, protocolError("an entry of a listing is not valid: %v", err)
		}
	}
	return entries, nil
}

func validateEntry(e *Entry) error {
	if !change.ValidName(e.Name) {
		return fmt.Errorf("%q is no name", clean(e.Name, 300))
	}
	if e.Object.ID.IsZero() && e.Object.Kind <= change.Socket { // it could not be read
		e.Object = change.Object{Kind: e.Object.Kind}
		return nil
	}
	return validateObject(&e.Object, true)
}

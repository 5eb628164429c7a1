package change

import "syscall"

// Observation is what a source saw at one place at one moment.
type Observation struct {
	At     Place
	Absent bool   // nothing there (or something excluded); Object is then empty
	Object Object // what is there
	// Content means that the object's content may have changed although size and mtime may be equal to the index.
	Content bool
	// Fresh counts up with each reading of a source, so that of two that contradict the later wins.
	Fresh uint64
}

// Entry is what the index holds for one place: the object as the secondary acknowledged it, and its identity there.
type Entry struct {
	Object          // Xattrs are not kept; XattrSum stands for them
	XattrSum uint64 // XattrSum of the acknowledged attributes; 0 when none
	Sec      ID     // identity on the secondary
	Racy     bool   // equal size and times do not prove equal content: it is to be compared
}

// Op says what a declaration asks for. Each is idempotent: carried out twice it ends the same.
type Op uint8

// The operations.
const (
	// Make creates a new object at At: a directory (empty, with attributes but its times), a symlink, a special file, or
	// a file with its content. Over is the identity (on the secondary) of an occupant that it replaces atomically.
	Make Op = 1 + iota
	// Link gives the object at From, which must have identity Sec, the further name At, replacing an occupant Over.
	Link
	// Move renames the object at From, which must have identity Sec, to At, which must be free or hold Sec already.
	Move
	// Set gives the object at At, which must have identity Sec, the attributes of Object.
	Set
	// Write replaces the content (and attributes) of the file at At, which should have identity Sec, for all its names:
	// At and Names. The new file is complete before any name shows it.
	Write
	// Adopt makes what is at At equal to Object, whatever it is: content equal by hash is kept, and the rest is set or replaced.
	Adopt
	// Drop removes the name At, when it is there and has identity Sec (any, if Sec is zero); a directory with all that is left in it.
	Drop
	// Times sets the times of a directory at At after its entries were changed.
	Times
)

func (o Op) String() string {
	names := [...]string{Make: "make", Link: "link", Move: "move", Set: "set", Write: "write", Adopt: "adopt", Drop: "drop", Times: "times"}
	if int(o) < len(names) && names[o] != "" {
		return names[o]
	}
	return "unknown"
}

// Declaration is one statement about what the secondary shall hold, in terms of primary identities. A plan is a slice of them.
type Declaration struct {
	Op     Op
	At     Place
	From   Place   // Link, Move
	Sec    ID      // identity that the secondary must find: at From for Link and Move, at At for Set, Write, Drop and Times
	Over   ID      // Make, Link: identity of the occupant of At that may be replaced; zero: At must be free
	Seen   Place   // Write: where the primary has the file now, when that is not At; the zero Place: it is At
	Names  []Place // Write, Set: the other acknowledged names of the object, which shows its new state under each of them
	Object Object  // the state that the object shall have; for Drop only Kind and ID
	// Unknown says that At holds something that nobody declared: it may be replaced as a whole.
	Unknown bool
	// Checksum (Write, Adopt) asks to compare whole contents before anything is sent.
	Checksum bool
	// After lists declarations of the same plan, by position, that must be applied before this one is sent.
	After []int
}

// Observed is the place at which the primary has what the declaration speaks of.
func (d *Declaration) Observed() Place {
	if d.Seen.IsRoot() {
		return d.At
	}
	return d.Seen
}

// Status is how a declaration ended.
type Status uint8

// The ends of a declaration.
const (
	Applied Status = 1 + iota // done, or it was so already
	Exists                    // At holds something that the declaration did not expect: it must be looked at (adopted)
	Stale                     // From or At is not the expected object: the index is behind the secondary
	Failed                    // Errno says why
)

// Result answers one declaration. It becomes an acknowledgement in the sense of "safe" only with the next commit.
type Result struct {
	Status  Status
	Sec     ID            // Applied: identity on the secondary of the object that is now at At
	Created bool          // Make of a directory: it was not there before, so that it is known to be empty
	Errno   syscall.Errno // Failed; 0 when the cause is not an errno. Applied: what kept owner or attributes from being set; the rest is done
	Call    string        // Failed: the call that failed, e.g. "openat"
	Detail  string        // Failed: more for a person, may be empty
	Local   bool          // Failed on the primary (reading), not on the secondary
}

func (s Status) String() string {
	switch s {
	case Applied:
		return "applied"
	case Exists:
		return "exists"
	case Stale:
		return "stale"
	case Failed:
		return "failed"
	}
	return "unknown"
}

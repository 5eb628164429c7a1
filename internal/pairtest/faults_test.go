package pairtest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"georep/internal/apply"
	"georep/internal/need"
	"georep/internal/pairtest"
	"georep/internal/rooted"
	"georep/internal/status"
	"georep/internal/treetest"
)

// fullVariable makes the tests of faults try every errno everywhere instead of a different few at each call.
const fullVariable = "GEOREP_FAULTS"

// errnos are those that some call of some file system answers. Those that say that something is not there, or is something
// else, are lies when they are injected: see lies.
func errnos() []syscall.Errno {
	return []syscall.Errno{
		syscall.EIO, syscall.ENOSPC, syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EDQUOT, syscall.ENOMEM, syscall.EMFILE,
		syscall.EINVAL, syscall.EOPNOTSUPP, syscall.EBUSY, syscall.ENOENT, syscall.ESTALE, syscall.ENAMETOOLONG, syscall.ELOOP,
		syscall.ENOTEMPTY, syscall.EEXIST, syscall.ENODATA, syscall.EUCLEAN, syscall.ENOSYS, syscall.EXDEV, syscall.ENOTDIR,
		syscall.ETIMEDOUT, syscall.EISDIR, syscall.EFBIG, syscall.EMLINK, syscall.ERANGE, syscall.ENXIO, syscall.ENOTCONN,
	}
}

// lies says whether an errno, injected on the source, says that an entry is not there, which is for the source to say: the
// entry is taken for removed or out of reach, and that it is not mirrored is no failure of anything.
func lies(e syscall.Errno) bool {
	return slices.Contains([]syscall.Errno{syscall.ENOENT, syscall.ENOTDIR, syscall.ELOOP, syscall.EXDEV, syscall.ESTALE}, e)
}

// meansSomething says whether code decides by this errno, so that another one may come of it.
func meansSomething(e syscall.Errno) bool {
	return lies(e) || slices.Contains([]syscall.Errno{syscall.EEXIST, syscall.EISDIR, syscall.ENXIO, syscall.ENODATA, syscall.EINVAL, syscall.ENOSYS, syscall.EOPNOTSUPP}, e)
}

// side is where a fault is.
type side int

const (
	atSource side = iota
	atDestination
)

func (s side) String() string { return [...]string{"source", "destination"}[s] }

// fault is an errno that takes the place of a system call.
type fault struct {
	side  side
	call  string // the name of the call, and
	path  string // what it is about, relative to the unit: each such call fails
	nth   int    // not 0: the nth call in the unit fails instead, whatever it is
	errno syscall.Errno
}

func (f *fault) String() string {
	if f.nth > 0 {
		return fmt.Sprintf("%v at call %d on the %s", f.errno, f.nth, f.side)
	}
	return fmt.Sprintf("%v at %s %q on the %s", f.errno, f.call, f.path, f.side)
}

// call is one system call of a unit.
type call struct {
	side       side
	name, path string
}

// unit is a directory with one theme and at most one fault.
type unit struct {
	name  string
	theme theme
	fault *fault

	calls []call // guarded by matrix.mu
	count int
	hits  int
	hit   call
}

// matrix is a pair of trees with many units.
type matrix struct {
	t     *testing.T
	pair  *pairtest.Pair
	units map[string]*unit

	mu    sync.Mutex
	armed bool
}

func newMatrix(t *testing.T, dir string, units []*unit) *matrix {
	t.Helper()
	p, err := pairtest.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := &matrix{t: t, pair: p, units: map[string]*unit{}}
	for i, u := range units {
		u.name = fmt.Sprintf("u%03d", i)
		m.units[u.name] = u
	}
	p.SourceFaults = func(call, path string) error { return m.asked(atSource, call, path) }
	p.Faults = func(call, path string) error { return m.asked(atDestination, call, path) }
	return m
}

// asked is called before every system call.
func (m *matrix) asked(s side, name, path string) error {
	first, rest, _ := strings.Cut(path, "/")
	m.mu.Lock()
	defer m.mu.Unlock()
	u := m.units[first]
	if u == nil || !m.armed {
		return nil
	}
	c := call{s, name, rest}
	u.calls = append(u.calls, c)
	f := u.fault
	if f == nil || f.side != s {
		return nil
	}
	u.count++
	if f.nth == 0 && (f.call != name || f.path != rest) || f.nth > 0 && f.nth != u.count {
		return nil
	}
	u.hits++
	u.hit = c
	return f.errno
}

func (m *matrix) arm(on bool) {
	m.mu.Lock()
	m.armed = on
	m.mu.Unlock()
}

// runTime is how long a run may take before it counts as hanging.
const runTime = 2 * time.Minute

// once runs the mirror once.
func (m *matrix) once() ([]status.Failure, error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), runTime)
	defer cancel()
	sum, err := m.pair.Run(ctx, 0)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("the run hangs: %w", errors.Join(ctx.Err(), err))
	}
	return sum.Failures, err
}

// prepare makes the units, mirrors them, and changes them.
func (m *matrix) prepare() {
	m.t.Helper()
	names := slices.Sorted(maps.Keys(m.units))
	for _, name := range names {
		d := scene{m.t, filepath.Join(m.pair.Primary, name)}
		d.must(os.Mkdir(d.path, 0o755))
		m.units[name].theme.before(d)
	}
	m.clean("first run")
	for _, name := range names {
		m.units[name].theme.after(scene{m.t, filepath.Join(m.pair.Primary, name)})
	}
}

// clean runs without faults: everything must be equal then, and nothing failing or left over.
func (m *matrix) clean(when string) {
	m.t.Helper()
	failures, err := m.once()
	if err != nil {
		m.t.Fatalf("%s: %v", when, err)
	}
	for _, f := range failures {
		m.t.Errorf("%s: failing: %s", when, m.describe(f))
	}
	differences, err := m.pair.Compare()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, d := range differences {
		if !m.dense(d) {
			m.t.Errorf("%s: %v (%s)", when, d, m.faultAt(d.Path))
		}
	}
	for _, name := range leftovers(m.t, m.pair.Secondary) {
		m.t.Errorf("%s: left over: %s", when, name)
	}
}

// dense says whether a difference is that of a file system that cannot tell its holes: what it has is data.
func (m *matrix) dense(d treetest.Difference) bool {
	u := m.unitAt(d.Path)
	return d.Property == treetest.Blocks && u != nil && u.fault != nil && u.hit.name == "lseek" &&
		(u.fault.errno == syscall.EINVAL || u.fault.errno == syscall.EOPNOTSUPP)
}

// leftovers are temporary names at the destination.
func leftovers(t *testing.T, top string) []string {
	t.Helper()
	var found []string
	for _, dir := range []string{apply.Hold, apply.Part} {
		entries, err := os.ReadDir(filepath.Join(top, dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			if dir == apply.Part || strings.HasPrefix(e.Name(), "tmp-") || strings.HasPrefix(e.Name(), rooted.ScratchPrefix) {
				found = append(found, dir+"/"+e.Name())
			}
		}
	}
	return found
}

func (m *matrix) unitAt(path string) *unit {
	first, _, _ := strings.Cut(path, "/")
	return m.units[first]
}

func (m *matrix) faultAt(path string) string {
	u := m.unitAt(path)
	if u == nil {
		return "no unit"
	}
	if u.fault == nil {
		return u.theme.name
	}
	return fmt.Sprintf("%s, %v, %d hits, last %s %q", u.theme.name, u.fault, u.hits, u.hit.name, u.hit.path)
}

func (m *matrix) describe(f status.Failure) string {
	return fmt.Sprintf("%q: %s: %s: errno %d (%s; %s) on the %s, %s", f.Path, f.Op, f.Call, f.Errno, f.Error, f.Hint, f.Side, m.faultAt(f.Path))
}

// run injects the faults of all units in one run and checks what came of it.
func (m *matrix) run() {
	m.t.Helper()
	m.prepare()
	m.arm(true)
	failures, err := m.once()
	m.arm(false)
	if err != nil {
		m.t.Errorf("faults at single entries ended the run: %v\n%s", err, m.list())
		return
	}
	m.judge(failures)
	m.clean("without the faults")
}

func (m *matrix) list() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m.units)) {
		fmt.Fprintf(&b, "%s: %s\n", name, m.faultAt(name))
	}
	return b.String()
}

// judge compares the trees while the faults are in force: what differs must be among the failures of its unit.
func (m *matrix) judge(failures []status.Failure) {
	m.t.Helper()
	told := map[*unit]bool{}
	for _, f := range failures {
		u := m.unitAt(f.Path)
		if u == nil && nowhere(f.Path) {
			continue
		}
		if u == nil || u.hits == 0 {
			m.t.Errorf("a failure where no fault was: %s", m.describe(f))
			continue
		}
		if f.Op == "" || f.Call == "" || f.Error == "" || f.Hint == "" || f.Count == 0 || f.Next.IsZero() || f.Errno == 0 {
			m.t.Errorf("a failure that does not say all: %+v: %s", f, m.describe(f))
		}
		// That a name stays taken by something that cannot be moved away is found where the name is to be given anew.
		told[u] = told[u] || syscall.Errno(f.Errno) == u.fault.errno || meansSomething(u.fault.errno) || syscall.Errno(f.Errno) == syscall.EBUSY
	}
	differences, err := m.pair.Compare()
	if err != nil {
		m.t.Fatal(err)
	}
	silent := map[*unit]bool{}
	for _, d := range differences {
		u := m.unitAt(d.Path)
		switch {
		case d.Path == "." && d.Property == treetest.Mtime:
		case u == nil || u.hits == 0:
			m.t.Errorf("a difference where no fault was: %v (%s)", d, m.faultAt(d.Path))
		case told[u] || silent[u] || m.dense(d) || u.fault.side == atSource && lies(u.fault.errno):
		default:
			silent[u] = true
			m.t.Errorf("SILENT DIFFERENCE: %v (%s)", d, m.faultAt(d.Path))
			for _, f := range failures {
				if m.unitAt(f.Path) == u {
					m.t.Logf("  told was: %s", m.describe(f))
				}
			}
		}
	}
}

// nowhere says whether a failure is about a place of the stash, or one that cannot be named because its directory is not on the
// secondary: what is there, is there for an entry that has its own failure.
func nowhere(path string) bool {
	return strings.HasPrefix(path, apply.Hold+"/") || strings.HasPrefix(path, "?/")
}

// record learns which calls the units make.
func record(t *testing.T) []*unit {
	t.Helper()
	var units []*unit
	for _, th := range themes() {
		units = append(units, &unit{theme: th})
	}
	m := newMatrix(t, need.InMemory(t), units)
	m.run()
	return units
}

// unitsPerRun is how many faults one run has, each in a unit of its own.
const unitsPerRun = 80

// inject runs all faults, many at once, and among them units that have none.
func inject(t *testing.T, units []*unit) {
	t.Helper()
	t.Logf("%d faults", len(units))
	for i := 0; len(units) > 0; i++ {
		n := min(unitsPerRun, len(units))
		part := append([]*unit{{theme: themes()[i%len(themes())]}}, units[:n]...)
		units = units[n:]
		t.Run(fmt.Sprint("run=", i), func(t *testing.T) {
			t.Parallel()
			newMatrix(t, need.InMemory(t), part).run()
		})
	}
}

// oneVariable makes TestOneFault inject a single fault: theme, side (0 source, 1 destination), call, path or number of the call,
// and errno, with semicolons between them.
const oneVariable = "GEOREP_FAULT"

// TestOneFault is for looking at one fault of the matrix closely.
func TestOneFault(t *testing.T) {
	v := strings.Split(os.Getenv(oneVariable), ";")
	if len(v) != 5 {
		return
	}
	f := &fault{call: v[2], path: v[3]}
	if v[1] == "1" {
		f.side = atDestination
	}
	if n, err := strconv.Atoi(v[3]); err == nil {
		f.nth = n
	}
	no, err := strconv.Atoi(v[4])
	if err != nil {
		t.Fatal(err)
	}
	f.errno = syscall.Errno(no)
	for _, th := range themes() {
		if th.name == v[0] {
			m := newMatrix(t, need.InMemory(t), []*unit{{theme: th, fault: f}})
			m.pair.Options.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
			m.run()
		}
	}
}

// TestMustP3AnyErrnoQuarantinesOnlyThatEntry lets every call that a change of any kind leads to, on either side, fail for as
// long as the run lasts: the run goes on, what could not be mirrored is named with its errno and a hint, everything
// else is equal, and without the fault the next run makes all equal.
func TestMustP3AnyErrnoQuarantinesOnlyThatEntry(t *testing.T) {
	all, turn := errnos(), 0
	var units []*unit
	for _, seen := range record(t) {
		known := map[call]bool{}
		for _, c := range seen.calls {
			if known[c] {
				continue
			}
			known[c] = true
			tries := all
			if os.Getenv(fullVariable) == "" {
				tries = []syscall.Errno{all[turn%len(all)]}
			}
			turn++
			for _, errno := range tries {
				if errno == syscall.ENOENT && c.name == "statx" && c.side == atDestination {
					continue // this is how a destination says that nothing is there: there is no other to ask
				}
				units = append(units, &unit{theme: seen.theme, fault: &fault{side: c.side, call: c.name, path: c.path, errno: errno}})
			}
		}
	}
	inject(t, units)
}

// TestMustP3AnyErrnoOnceHealsByItself lets every single call fail once.
func TestMustP3AnyErrnoOnceHealsByItself(t *testing.T) {
	all, turn := errnos(), 0
	var units []*unit
	for _, seen := range record(t) {
		count := map[side]int{}
		for _, c := range seen.calls {
			count[c.side]++
			turn++
			tries := all
			if os.Getenv(fullVariable) == "" {
				if turn%3 != 0 {
					continue
				}
				tries = []syscall.Errno{all[turn/3%len(all)]}
			}
			for _, errno := range tries {
				if errno == syscall.ENOENT && c.side == atDestination || errno == syscall.EOPNOTSUPP {
					continue // which call the nth is may differ: see above
				}
				units = append(units, &unit{theme: seen.theme, fault: &fault{side: c.side, nth: count[c.side], errno: errno}})
			}
		}
	}
	inject(t, units)
}

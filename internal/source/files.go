package source

import (
	"georep/internal/change"
	"georep/internal/rooted"
	"georep/internal/source/inotify"
)

// A watch of a directory tells what is done to a file under the names that it has there. What is done under a name that is outside of the
// tree, or by a descriptor whose name is gone with its directory or is another's by now, only a watch of the file itself tells. So files
// with several names get one, as far as there is room.

// linkWatcher is what the walker calls for files with several names; nil where nothing has to be done for them.
func (v *Volume) linkWatcher() func(dir *rooted.Dir, at change.Place, o *change.Object) {
	if _, ok := v.watch.(*inotifyWatch); !ok {
		return nil
	}
	return v.watchFile
}

// watchFile watches the file o, which was seen at a place of the open directory dir, if it has several names.
func (v *Volume) watchFile(dir *rooted.Dir, at change.Place, o *change.Object) {
	w, ok := v.watch.(*inotifyWatch)
	if !ok || o.Kind != change.File || o.Nlink < 2 || !w.AddFile(dir, at.Name, o.ID) {
		return
	}
	now, err := dir.Stat(at.Name)
	if err != nil || now.ID != o.ID {
		w.RemoveFile(o.ID) // it may be on another object
	}
	if err != nil || now.ID != o.ID || now.Ctime != o.Ctime {
		v.pending.add(at, look{content: true}) // it changed between the look at it and the begin of its watch
	}
}

// fileChanged notes the known names of a file that has a watch of its own.
func (v *Volume) fileChanged(e inotify.Event) {
	n := doubt{content: e.Content}
	n.ticket, n.since = v.pending.moment()
	v.strangers.note(e.File.Handle(), n) // it may be on its way to be handed out for the first time
	names, err := v.namesOf(e.File)
	if err != nil {
		v.RescanAll()
		return
	}
	for _, at := range names {
		v.pending.add(at, look{content: e.Content, follow: true, lazy: e.Content && !e.Closed && !e.Attrib})
	}
}

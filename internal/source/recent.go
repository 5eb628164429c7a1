package source

import "sync"

// recent is a map that forgets: it holds the last size to 2*size keys that were put or asked for.
type recent[K comparable, V any] struct {
	mu       sync.Mutex
	size     int
	young    map[K]V
	old      map[K]V
	lossless bool // nothing was forgotten since the last clear
}

func newRecent[K comparable, V any](size int) *recent[K, V] {
	return &recent[K, V]{size: size, young: make(map[K]V), lossless: true}
}

func (r *recent[K, V]) get(key K) (V, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok := r.young[key]; ok {
		return v, true
	}
	v, ok := r.old[key]
	if ok {
		r.store(key, v)
	}
	return v, ok
}

func (r *recent[K, V]) put(key K, v V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.store(key, v)
}

// store puts a key among the young. The caller holds mu.
func (r *recent[K, V]) store(key K, v V) {
	if len(r.young) >= r.size {
		if len(r.old) > 0 {
			r.lossless = false
		}
		r.old, r.young = r.young, make(map[K]V)
	}
	r.young[key] = v
}

func (r *recent[K, V]) has(key K) bool {
	_, ok := r.get(key)
	return ok
}

func (r *recent[K, V]) delete(key K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.young, key)
	delete(r.old, key)
}

// none says whether certainly no key is or was in the map since the last clear.
func (r *recent[K, V]) none() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.young) == 0 && len(r.old) == 0 && r.lossless
}

// complete says whether nothing was forgotten since the last clear.
func (r *recent[K, V]) complete() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lossless
}

// prune deletes the keys that keep does not want.
func (r *recent[K, V]) prune(keep func(K) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range []map[K]V{r.young, r.old} {
		for key := range m {
			if !keep(key) {
				delete(m, key)
			}
		}
	}
}

func (r *recent[K, V]) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.young, r.old, r.lossless = make(map[K]V), nil, true
}

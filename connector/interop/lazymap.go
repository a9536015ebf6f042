package interop

// Most accounts are idle at most times, and an account has some thirty maps: one takes memory only while there is something in it.

// put sets m[k], and makes the map if there is none.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[k] = v
}

// drop deletes m[k], and lets go of a map with nothing in it.
func drop[K comparable, V any](m *map[K]V, k K) {
	if delete(*m, k); len(*m) == 0 {
		*m = nil
	}
}

package mediastore_test

import (
	"testing"
	"time"
)

func TestStoresWithTheirPrefixesInOneBucketLeaveEachOthersBlobsAlone(t *testing.T) {
	server := startMinIO(t)
	server.bucket(t, "shared")
	prefixes := []string{"", "east", "east2/", "west/deep/"}
	worlds := make([]*world, len(prefixes))
	for i, prefix := range prefixes {
		cfg := server.config(t, "shared")
		cfg.Prefix = prefix
		worlds[i] = newWorld(t, s3Backend(t, cfg), 0)
		worlds[i].put(t, "somebody", random(uint64(i), 1000))
		worlds[i].put(t, "somebody else", random(uint64(10+i), 1000))
	}
	check := func(what string, counts ...int) {
		t.Helper()
		for i, want := range counts {
			if got := names(t, worlds[i].backend); len(got) != want {
				t.Errorf("%s: the store at %q has %d blobs, want %d", what, prefixes[i], len(got), want)
			}
		}
	}
	check("at first", 2, 2, 2, 2)
	for _, w := range worlds { // old enough to be swept if they had no rows
		w.clock.add(30 * 24 * time.Hour)
		if err := w.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	check("after sweeps", 2, 2, 2, 2)
	if err := worlds[1].DeleteOwner(t.Context(), "somebody"); err != nil {
		t.Fatal(err)
	}
	check("after somebody has left the second", 2, 1, 2, 2)
	worlds[0].clock.add(20 * 24 * time.Hour)
	if err := worlds[0].Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("after all of the first has expired", 0, 1, 2, 2)
}

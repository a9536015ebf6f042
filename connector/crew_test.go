package connector

import (
	"slices"
	"testing"
	"testing/synctest"
)

func TestACrewDoesAllJobsInOrderAndSoManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := bubbled()
		if before == 0 {
			t.Fatal("the goroutines of a bubble look otherwise")
		}
		c, release := &crew{size: 2}, make(chan struct{})
		var begun []int
		for i := range 10 {
			c.do(func() { begun = append(begun, i); <-release })
			synctest.Wait()
		}
		if len(begun) != 2 || bubbled() != before+2 {
			t.Errorf("%d jobs have begun with %d goroutines, want 2 and 2", len(begun), bubbled()-before)
		}
		for range 10 {
			release <- struct{}{}
			synctest.Wait()
		}
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}; !slices.Equal(begun, want) {
			t.Errorf("the jobs began in the order %v", begun)
		}
		if c.busy != 0 || bubbled() != before {
			t.Errorf("%d hands are left, %d goroutines", c.busy, bubbled()-before)
		}
		done := false
		c.do(func() { done = true })
		if synctest.Wait(); !done {
			t.Error("nothing is done any more")
		}
	})
}

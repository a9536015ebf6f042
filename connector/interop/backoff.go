package interop

import (
	"math/rand/v2"
	"time"
)

// backoff is the delay before try number attempt (1 for the first repetition):
// lowest doubling up to highest, then a random half to whole of it, so that many
// chats or accounts do not come back at the same moment.
func backoff(attempt int, lowest, highest time.Duration) time.Duration {
	d := lowest
	for i := 1; i < attempt && d < highest; i++ {
		d *= 2
	}
	d = min(d, highest)
	return d/2 + rand.N(d/2+1)
}

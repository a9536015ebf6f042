//go:build !race

package binxml_test

import (
	"os"
	"testing"
)

// The goal is half of whatsmeow's time. The race detector makes time figures meaningless, so this is not built with it;
// `./build.sh test` runs it in a turn of its own. A machine under load can make any one measurement wrong, so that the
// goal is insisted on in the long campaign only and the figure told otherwise.
func TestTimeStaysWithinHalfOfWhatsmeows(t *testing.T) {
	long, times := os.Getenv("POSTERN_ALL") != "", 16000
	if long {
		times = 320000
	}
	for _, p := range pairs(t) {
		ours, theirs := fastest(t, p, times)
		t.Logf("%s: %.0f ns, theirs %.0f ns, ratio %.2f", p.name, ours, theirs, ours/theirs)
		if long && ours > theirs/2 {
			t.Errorf("%s: more than half of theirs", p.name)
		}
	}
}

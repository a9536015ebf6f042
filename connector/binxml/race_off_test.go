//go:build !race

package binxml_test

// raceEnabled says that the race detector is on, which makes memory and time figures meaningless.
const raceEnabled = false

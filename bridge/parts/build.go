package parts

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// BuildPostern builds the program from this tree, with tags beside the usual one, into a file. Its error has what the compiler said.
func BuildPostern(to string, tags ...string) error {
	args := []string{"build", "-tags", strings.Join(append([]string{"goolm"}, tags...), ","), "-o", to}
	if slices.Contains(tags, "ownclock") {
		args = append(args, "-ldflags", "-checklinkname=0") // its own clock is linked by a name of the runtime's
	}
	if out, err := exec.Command("go", append(args, "postern/bridge")...).CombinedOutput(); err != nil {
		return fmt.Errorf("building postern: %w\n%s", err, out)
	}
	return nil
}

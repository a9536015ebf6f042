package oracle

import (
	"errors"
	"math/rand/v2"
	"testing"

	"postern/connector/e2ee"
)

// safetyNumbers are how many safety numbers are compared with each version.
const safetyNumbers = 40

type wireParty struct {
	Identifier []byte `json:"identifier"`
	Identity   []byte `json:"identity"`
}

type wireSafety struct {
	Digits    string
	Scannable []byte
	Equal     bool
}

// safety is what the official library makes of two parties, and of what was scanned on the other side.
func (o *official) safety(iterations int, us, them e2ee.SafetyParty, scanned []byte) (wireSafety, error) {
	o.t.Helper()
	request := map[string]any{
		"op": "safety", "iterations": iterations, "version": 1,
		"ours": wireParty{us.Identifier, us.Identity[:]}, "theirs": wireParty{them.Identifier, them.Identity[:]},
	}
	if scanned != nil {
		request["scanned"] = scanned
	}
	var answer wireSafety
	return answer, o.call(request, &answer)
}

// TestTheOfficialLibraryMakesTheSameSafetyNumbersAndTakesWhatIsScanned: the same digits and bytes, both ways round, and each side takes
// what it scans on the other's screen and nothing else.
func TestTheOfficialLibraryMakesTheSameSafetyNumbersAndTakesWhatIsScanned(t *testing.T) {
	for _, v := range versions {
		t.Run(v.version, func(t *testing.T) {
			o := startOfficial(t, v.version)
			random := rand.New(rand.NewPCG(5200, 60)) //nolint:gosec // reproducible on purpose
			party := func() e2ee.SafetyParty {
				device, err := e2ee.NewDevice(nil)
				if err != nil {
					t.Fatal(err)
				}
				identifier := make([]byte, 1+random.IntN(40))
				for i := range identifier {
					identifier[i] = byte(random.Uint32())
				}
				return e2ee.SafetyParty{Identifier: identifier, Identity: device.IdentityPublic}
			}
			for i := range safetyNumbers {
				us, them, other := party(), party(), party()
				iterations := 5200
				if i > 3 {
					iterations = 2 + random.IntN(50)
				}
				ours := e2ee.NewSafetyNumber(1, iterations, us, them)
				wrong := e2ee.NewSafetyNumber(1, iterations, us, other)
				theirs, err := o.safety(iterations, them, us, ours.Scannable())
				if err != nil {
					t.Fatal(err)
				}
				mirrored, err := o.safety(iterations, us, them, nil)
				if err != nil {
					t.Fatal(err)
				}
				if ours.Digits() != theirs.Digits || ours.Digits() != mirrored.Digits || len(ours.Digits()) != e2ee.SafetyDigits {
					t.Fatalf("our digits are %s, the official ones %s and %s", ours.Digits(), theirs.Digits, mirrored.Digits)
				}
				if string(ours.Scannable()) != string(mirrored.Scannable) {
					t.Fatalf("we show %x, the official library %x", ours.Scannable(), mirrored.Scannable)
				}
				if !theirs.Equal {
					t.Error("the official library does not take what it scans on our side")
				}
				if equal, err := ours.Compare(theirs.Scannable); err != nil || !equal {
					t.Errorf("we take what the official library shows with %t, %v", equal, err)
				}
				if equal, err := wrong.Compare(theirs.Scannable); err != nil || equal {
					t.Errorf("we take a number of other people with %t, %v", equal, err)
				}
				if refused, err := o.safety(iterations, them, us, wrong.Scannable()); err != nil || refused.Equal {
					t.Errorf("the official library takes a number of other people with %t, %v", refused.Equal, err)
				}
				damaged := ours.Scannable()[:random.IntN(70)]
				var official *officialError
				if _, err := o.safety(iterations, them, us, damaged); len(damaged) > 0 && !errors.As(err, &official) {
					t.Errorf("the official library takes %x with %v", damaged, err)
				}
				if _, err := ours.Compare(damaged); !errors.Is(err, e2ee.ErrNotScanned) {
					t.Errorf("we take %x with %v", damaged, err)
				}
			}
		})
	}
}

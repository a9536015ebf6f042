package matrixdurable

import "maunium.net/go/mautrix/crypto"

// The framework's encryption must offer what room keys are handled with; a new version that does not fails to
// compile here.
var _ olmMachine = (*crypto.OlmMachine)(nil)

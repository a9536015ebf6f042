package convert

// The highest value of a waveform on each side: MSC1767's, and PROTOCOL.md 6.4's.
const (
	matrixPeak  = 1024
	interopPeak = 100
)

// Matrix clients expect between 30 and 120 values (MSC3246).
const maxMatrixSamples = 120

// resample gives a waveform of n values: the highest of each stretch, or each value several times.
func resample[V byte | int](in []V, n int) []V {
	out := make([]V, n)
	for i := range out {
		from, to := i*len(in)/n, (i+1)*len(in)/n
		out[i] = in[from]
		for _, peak := range in[from:max(to, from+1)] {
			out[i] = max(out[i], peak)
		}
	}
	return out
}

// matrixWaveform writes a waveform of WhatsApp's as MSC1767 wants it, nil if there is none.
func matrixWaveform(waveform []byte) []int {
	out := make([]int, len(waveform))
	for i, peak := range waveform {
		out[i] = int(min(peak, interopPeak)) * matrixPeak / interopPeak
	}
	return out
}

// interopWaveform bounds a waveform of values from 0 to 100, nil if there is none.
func interopWaveform(waveform []byte) []byte {
	if len(waveform) == 0 {
		return nil
	}
	n := len(waveform)
	if n > maxMatrixSamples {
		n = WaveformSamples
	}
	out := resample(waveform, n)
	for i := range out {
		out[i] = min(out[i], interopPeak)
	}
	return out
}

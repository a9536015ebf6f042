package faults_test

import (
	"net"
	"sync"
	"time"
)

// direction is where bytes go.
type direction int

const (
	toBridge direction = iota
	toGate
)

func (d direction) String() string { return [...]string{"to the bridge", "to the gatekeeper"}[d] }

// wire stands between the bridge and the gatekeeper's stream, and cuts it or turns a bit, at a byte.
type wire struct {
	listener net.Listener
	origin   string // where the gatekeeper is

	mu     sync.Mutex
	passed [2]int64
	orders [2]*order
	open   map[net.Conn]bool
	came   int // connections of the bridge
	closed bool
	// silent is up to which of them nothing arrives any more, at either end, not even that the other end has hung up.
	silent int
	// door, if not nil, is closed when further ones are let in; at it are those that wait there.
	door chan struct{}
	at   int
}

// order is what is to be done to a byte of a direction, the one after that many more.
type order struct {
	left int64
	flip bool
	// held is not nil where the byte, and what follows, goes on when it is closed.
	held chan struct{}
	// played is closed when it was done, over when the side that it was done to has closed its connection after that; at and ended are when.
	played, over chan struct{}
	at, ended    time.Time
}

func newWire() (*wire, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &wire{listener: l, open: map[net.Conn]bool{}}
	go w.accept()
	return w, nil
}

func (w *wire) address() string { return "tcp://" + w.listener.Addr().String() }

// goes says where the gatekeeper is.
func (w *wire) goes(origin string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.origin = origin
}

func (w *wire) close() {
	_ = w.listener.Close() // nobody comes any more
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for c := range w.open {
		_ = c.Close() // whatever it was doing
	}
}

func (w *wire) accept() {
	for {
		bridge, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.wait()
		w.mu.Lock()
		origin := w.origin
		w.mu.Unlock()
		gate, err := net.Dial("tcp", origin)
		if err != nil {
			_ = bridge.Close() // as if nobody had listened
			continue
		}
		w.mu.Lock()
		if w.closed {
			w.mu.Unlock()
			_, _ = bridge.Close(), gate.Close()
			return
		}
		w.open[bridge], w.open[gate] = true, true
		w.came++
		n := w.came
		w.mu.Unlock()
		go w.pass(toGate, n, bridge, gate)
		go w.pass(toBridge, n, gate, bridge)
	}
}

// wait waits at the door, if there is one.
func (w *wire) wait() {
	w.mu.Lock()
	door := w.door
	w.at++
	w.mu.Unlock()
	if door != nil {
		<-door
	}
	w.mu.Lock()
	w.at--
	w.mu.Unlock()
}

// swallows has nothing arrive any more of what is sent on the connections there are, though they stay open. The next one waits at the door until
// let is called.
func (w *wire) swallows() (let func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	door := make(chan struct{})
	w.silent, w.door = w.came, door
	return sync.OnceFunc(func() {
		w.mu.Lock()
		w.door = nil
		w.mu.Unlock()
		close(door)
	})
}

// knocks says whether somebody waits at the door.
func (w *wire) knocks() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.door != nil && w.at > 0
}

// swallowed says whether nothing of a connection arrives any more.
func (w *wire) swallowed(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return n <= w.silent
}

// pass carries bytes of the nth connection until their source ends. What its destination does not take any more is thrown away.
func (w *wire) pass(d direction, number int, from, to net.Conn) {
	defer func() {
		w.mu.Lock()
		delete(w.open, from)
		if o := w.orders[1-d]; o != nil && o.flip && !o.at.IsZero() && o.ended.IsZero() {
			o.ended = time.Now() // the one who has read the bit has hung up
			close(o.over)
		}
		w.mu.Unlock()
		_ = from.Close() // it has ended
		if !w.swallowed(number) {
			half(to)
		}
	}()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !w.swallowed(number) {
			part, cut, wait := w.play(d, buf[:n])
			if wait != nil {
				<-wait
			}
			if _, err := to.Write(part); err != nil && !cut {
				continue
			}
			if cut {
				half(to) // what was written before arrives
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// half says to a connection's other end that nothing more comes.
func half(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // it may be closed
	}
}

// play does what is ordered.
func (w *wire) play(d direction, part []byte) (rest []byte, cut bool, wait <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.passed[d] += int64(len(part))
	o := w.orders[d]
	if o == nil || !o.at.IsZero() {
		return part, false, nil
	}
	if o.left >= int64(len(part)) {
		o.left -= int64(len(part))
		return part, false, nil
	}
	o.at = time.Now()
	close(o.played)
	switch {
	case o.held != nil:
		return part, false, o.held
	case o.flip:
		part[o.left] ^= 1
		return part, false, nil
	}
	return part[:o.left], true, nil
}

// holds keeps the byte behind the next n of a direction back, and all that follow, until release is called.
func (w *wire) holds(d direction, n int64) (o *order, release func()) {
	o = &order{left: n, held: make(chan struct{}), played: make(chan struct{}), over: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orders[d] = o
	return o, sync.OnceFunc(func() { close(o.held) })
}

// after orders something for the byte behind the next n of a direction.
func (w *wire) after(d direction, n int64, flip bool) *order {
	o := &order{left: n, flip: flip, played: make(chan struct{}), over: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orders[d] = o
	return o
}

// connections is how often the bridge has connected.
func (w *wire) connections() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.came
}

// bytes is how many have gone in a direction.
func (w *wire) bytes(d direction) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.passed[d]
}

// hangUp ends all connections there are.
func (w *wire) hangUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.open {
		_ = c.Close() // whatever it was doing
	}
}

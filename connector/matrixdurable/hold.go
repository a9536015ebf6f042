package matrixdurable

// Hold keeps workers from taking further events until Release. Holds add up.
func (d *Dispatcher) Hold() {
	d.mu.Lock()
	d.holds++
	d.mu.Unlock()
}

// Release takes back one Hold.
func (d *Dispatcher) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holds--
	d.spawn()
}

// HoldRoom is Hold for one room.
func (d *Dispatcher) HoldRoom(room string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.apart[room]++
}

// ReleaseRoom takes back one HoldRoom.
func (d *Dispatcher) ReleaseRoom(room string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.apart[room]--; d.apart[room] <= 0 {
		delete(d.apart, room)
	}
	d.spawn()
}

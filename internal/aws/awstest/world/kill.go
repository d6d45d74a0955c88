package world

import "strings"

// Kill ends a program, as kill -9 does, at one of its calls. Unlike a fault it
// befalls whatever somebody's session calls, of any service.
type Kill struct {
	Session string // the name of the session, as the trail shows it
	Skip    int    // calls of it that are let pass first
	After   bool   // the call is applied before the program ends
	Kill    func() // ends the program, and returns when it will not go on
}

// KillAt has one call end the program that makes it. There is one at a time;
// that of nobody has none.
func (w *World) KillAt(k Kill) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kill = &k
	if k.Kill == nil {
		w.kill = nil
	}
}

// killed counts a call, and returns what is to end with it.
func (w *World) killed(who *session) *Kill {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := w.kill
	if k == nil || !strings.HasSuffix(who.Session, "/"+k.Session) {
		return nil
	}
	if k.Skip > 0 {
		k.Skip--
		return nil
	}
	w.kill = nil
	return k
}

package main

import (
	"encoding/json"
	"io"
	"os"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// jsonRaw is JSON that is printed as it is.
type jsonRaw = json.RawMessage

// bar shows long work on a terminal and nothing elsewhere.
type bar struct {
	all *mpb.Progress
	one *mpb.Bar
}

// progress begins a bar over total steps, with the time left.
func (a *app) progress(total int64, what string) *bar {
	file, ok := a.err.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || a.json {
		return &bar{}
	}
	all := mpb.New(mpb.WithOutput(io.Writer(file)), mpb.WithWidth(40))
	return &bar{all, all.AddBar(total,
		mpb.PrependDecorators(decor.CountersNoUnit(what+" %d of %d ", decor.WCSyncSpace)),
		mpb.AppendDecorators(decor.Percentage(decor.WCSyncSpace), decor.Name("  "), decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO), "done")))}
}

func (b *bar) step() {
	if b.one != nil {
		b.one.Increment()
	}
}

// add is several steps.
func (b *bar) add(n int64) {
	if b.one != nil {
		b.one.IncrInt64(n)
	}
}

// done ends the bar, wherever it stands.
func (b *bar) done() {
	if b.one != nil {
		b.one.Abort(false)
		b.all.Wait()
	}
}

package main

import (
	"context"
	"iter"
	"runtime"
	"sync"

	"github.com/spf13/cobra"
)

// inParallel calls do for every item, on up to so many goroutines at once,
// and returns the first error. When it returns, none of them runs any more:
// each may hold secrets, which it wipes on its way out.
func inParallel[T any](ctx context.Context, workers int, items iter.Seq2[T, error], do func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	workers = max(workers, 1)
	queue := make(chan T, 4*workers) // else each item costs two changes of goroutine
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for item := range queue {
				if ctx.Err() != nil {
					return
				}
				if err := do(ctx, item); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	for item, err := range items {
		if err != nil {
			cancel(err)
		}
		if ctx.Err() != nil {
			break
		}
		select {
		case queue <- item:
		case <-ctx.Done():
		}
	}
	close(queue)
	group.Wait()
	return context.Cause(ctx)
}

// each yields the elements of a list for inParallel.
func each[T any](list []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, item := range list {
			if !yield(item, nil) {
				return
			}
		}
	}
}

// nth is an element of a list and where it stands.
type nth[T any] struct {
	at int
	of T
}

// numbered is each, with places.
func numbered[T any](list []T) iter.Seq2[nth[T], error] {
	return func(yield func(nth[T], error) bool) {
		for i, item := range list {
			if !yield(nth[T]{i, item}, nil) {
				return
			}
		}
	}
}

// workersFlag adds --workers; checkWorkers judges it.
func workersFlag(cmd *cobra.Command, workers *int) {
	cmd.Flags().IntVar(workers, "workers", defaultWorkers, "make `N` at once; with scrypt each takes 256 MiB")
}

func checkWorkers(workers int) error {
	if workers < 1 || workers > 1024 {
		return usage("", "--workers is %d: use 1 to 1024", workers)
	}
	return nil
}

// defaultWorkers is one for each core.
var defaultWorkers = runtime.NumCPU()

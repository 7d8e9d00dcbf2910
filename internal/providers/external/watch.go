package external

import (
	"context"
	"errors"
	"sync"

	"forged.dev/forged/internal/reconcile"
)

// watchBoth watches in several ways until ctx ends, or one of them does.
func watchBoth(ctx context.Context, notify func(reconcile.Event), ways ...func(context.Context, func(reconcile.Event)) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(ways))
	var all sync.WaitGroup
	for i, watch := range ways {
		all.Go(func() {
			defer cancel()
			errs[i] = watch(ctx, notify)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

package fly

import (
	"cmp"
	"context"
)

// polled is what the listings said last.
type polled struct{}

func compareTopics(a, b Topic) int {
	return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Section, b.Section))
}

// blind tells that the listings have failed for so long that what was read may
// have changed unseen. The caller holds mu.
func (o *Org) blind() bool { return false }

func (o *Org) poll(ctx context.Context) { <-ctx.Done() }

package kubernetes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// Fitter brings objects into the form that a cluster can run, before they are
// compared with what is live or sent there.
type Fitter interface {
	// Fit never changes the objects that it is given. An error of kind Invalid
	// names everything that cannot run there, and what to do about it.
	Fit(ctx context.Context, c *Cluster, rules forge.Rules, objects []*unstructured.Unstructured) (Fitted, error)
}

// Fitted are objects that a cluster can run.
type Fitted struct {
	Objects []*unstructured.Unstructured
	Changes []reconcile.Change // what was made of them: before and after
	Notices []reconcile.Notice // what a person should know of that

	// Digest changes when the same objects would be fitted in another way: with
	// the table, with what is allowed, and with what the cluster can do. It does
	// not depend on the objects: who fits none learns it, as often as he likes,
	// and that costs no request.
	Digest string
}

// mostFitMarks bounds what is written down of how something was fitted: what is
// beyond it is shown again each time.
const mostFitMarks = 500

// FitMarks are what is written down of changes with what was applied, so that
// they can be told from others later. What a change says is not in its mark.
func FitMarks(changes []reconcile.Change) []string {
	marks := make([]string, 0, len(changes))
	for _, c := range changes {
		marks = append(marks, fitMark(c))
	}
	slices.Sort(marks)
	marks = slices.Compact(marks)
	return marks[:min(len(marks), mostFitMarks)]
}

// FreshFits are the changes that were not made of what was applied last, and how
// many more were.
func FreshFits(changes []reconcile.Change, marks []string) (fresh []reconcile.Change, before int) {
	for _, c := range changes {
		if _, known := slices.BinarySearch(marks, fitMark(c)); known {
			before++
			continue
		}
		fresh = append(fresh, c)
	}
	return fresh, before
}

func fitMark(c reconcile.Change) string {
	sum := sha256.Sum256([]byte(c.Path + "\x00" + c.From + "\x00" + c.To))
	return hex.EncodeToString(sum[:4])
}

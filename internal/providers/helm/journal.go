package helm

import (
	"bytes"
	"errors"
	"maps"
	"strconv"
	"strings"
	"sync"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// journal stands between the SDK and Helm's storage during one action. The SDK
// is given a chart without templates, so that it renders nothing; what forged
// has rendered is put into the record here, before it is written, and from
// there the SDK takes the hooks it runs. It also notices writes that failed
// where the SDK only logs that.
type journal struct {
	driver.Driver

	release identity
	next    *rendering // what the next record is to hold; nil: what the SDK puts there

	mu     sync.Mutex
	number int   // of the record that was written, or may have been
	err    error // of the first write that failed
}

// Create implements driver.Driver.
func (j *journal) Create(key string, rel *release.Release) error {
	labels := maps.Clone(rel.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.DeleteFunc(labels, func(k, _ string) bool { return strings.HasPrefix(k, "forged.dev/") })
	labels[revisionLabel] = j.release.label(strconv.Itoa(rel.Version))
	rel.Labels = labels
	if r := j.next; r != nil {
		rel.Chart, rel.Config, rel.Hooks = r.chart, r.values, nil
		for _, h := range r.hooks {
			fresh := *h
			rel.Hooks = append(rel.Hooks, &fresh)
		}
	}
	err := j.Driver.Create(key, rel)
	if errors.Is(err, driver.ErrReleaseExists) {
		return j.note(reconcile.Errorf(reconcile.Stale, "write Helm record of "+j.release.String(), "another actor has just made revision %d", rel.Version))
	}
	j.mu.Lock()
	j.number = rel.Version
	j.mu.Unlock()
	return j.note(err)
}

// Update implements driver.Driver.
func (j *journal) Update(key string, rel *release.Release) error {
	return j.note(j.Driver.Update(key, rel))
}

func (j *journal) note(err error) error {
	if err == nil {
		return nil
	}
	err = kubernetes.Classify("write Helm record of "+j.release.String(), kubernetes.Ref{}, err)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = err
	}
	return err
}

// failed is the first write that failed.
func (j *journal) failed() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// made is the number of the record that the action has written; 0: none.
func (j *journal) made() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.number
}

// bare is a chart that renders to nothing.
func bare(ch *chart.Chart) *chart.Chart {
	return &chart.Chart{Metadata: &chart.Metadata{APIVersion: chart.APIVersionV2, Name: ch.Name(), Version: ch.Metadata.Version}}
}

// done is a postrender.PostRenderer that puts a manifest in the place of what
// the SDK has rendered.
type done string

// Run implements postrender.PostRenderer.
func (d done) Run(*bytes.Buffer) (*bytes.Buffer, error) { return bytes.NewBufferString(string(d)), nil }

package helm

import (
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"

	"forged.dev/forged/internal/reconcile"
)

// recordSlack is what Helm adds to a record between its first and last write:
// what hooks did, and a description.
const recordSlack = 16 << 10

// fits refuses a release whose record the API server would not take, before
// anything is applied. Helm writes the whole chart into each record, packed.
func (s *seen) fits(r *rendering) error {
	size, err := recordSize(r)
	if err != nil {
		return reconcile.Errorf(reconcile.Internal, "measure Helm record", "%v", err)
	}
	if size <= corev1.MaxSecretSize-recordSlack {
		return nil
	}
	name, biggest := "its rendered manifest", len(r.manifest)
	var walk func(*chart.Chart)
	walk = func(ch *chart.Chart) {
		for _, f := range ch.Raw {
			if len(f.Data) > biggest {
				name, biggest = ch.ChartFullPath()+"/"+f.Name, len(f.Data)
			}
		}
		for _, dep := range ch.Dependencies() {
			walk(dep)
		}
	}
	walk(r.chart)
	return &reconcile.Error{
		Kind: reconcile.Invalid, ID: s.h.id, Object: s.object(), Op: "plan",
		Err: fmt.Errorf("its record in Helm's storage would be %d bytes, and a Secret holds %d; the biggest part is %s with %d bytes",
			size, corev1.MaxSecretSize, name, biggest),
		Hint: "take files out of the chart that no template needs (.helmignore), or divide it",
	}
}

// recordSize is how many bytes Helm's storage will make of a release.
func recordSize(r *rendering) (int, error) {
	var n counter
	encoded := base64.NewEncoder(base64.StdEncoding, &n)
	packed, err := gzip.NewWriterLevel(encoded, gzip.BestCompression)
	if err != nil {
		return 0, err
	}
	err = json.NewEncoder(packed).Encode(&release.Release{
		Chart: r.chart, Config: r.values, Manifest: r.manifest, Hooks: r.hooks, Info: &release.Info{},
	})
	if err != nil {
		return 0, err
	}
	if err := packed.Close(); err != nil {
		return 0, err
	}
	if err := encoded.Close(); err != nil {
		return 0, err
	}
	return int(n), nil
}

type counter int

// Write implements io.Writer.
func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

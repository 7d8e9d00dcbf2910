package objects

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// maxConfig is what all files of a ConfigMap may hold together (Kubernetes
// documentation, ConfigMaps).
const maxConfig = 1 << 20

// NewConfig makes the provider of kind "config": a ConfigMap with files, some
// of which stand beside forge.cue. They are read at every look and watched.
// Relative paths start at dir.
func NewConfig(clusters *kubernetes.Clusters, dir string) reconcile.Provider {
	c := &config{files: newFiles(dir)}
	return New(clusters, Kind{
		Name: forge.KindConfig,
		Namespace: func(s forge.Spec) (string, bool) {
			spec, ok := s.(forge.ConfigSpec)
			return spec.Namespace, ok
		},
		Gone:   func(namespace string) forge.Spec { return forge.ConfigSpec{Namespace: namespace} },
		Want:   c.want,
		Tell:   c.tell,
		Watch:  c.files.watch,
		Forget: func(r forge.Resource) { c.files.follow(user{r.Target, r.ID}, nil) },
	})
}

type config struct{ files *files }

// want reads the files. One that cannot be read leaves the whole unknown: the
// others alone are not what was asked for.
func (c *config) want(ctx context.Context, l *Look) ([]Object, error) {
	r := l.Request.Resource
	spec := r.Spec.(forge.ConfigSpec) // Namespace has seen to that
	var names []string
	for _, f := range spec.Files {
		if f.File != "" {
			names = append(names, f.File)
		}
	}
	c.files.follow(user{r.Target, r.ID}, names)

	text, binary := map[string]any{}, map[string]any{}
	sum, size, largest := sha256.New(), 0, part{}
	for _, f := range spec.Files {
		held := content{text: f.Text}
		if f.File != "" {
			var err error
			if held, err = c.files.get(ctx, f.File, maxConfig); err != nil {
				return nil, err
			}
		} else {
			held.sum = sha256.Sum256([]byte(f.Text))
		}
		field(sum, f.Key)
		sum.Write(held.sum[:])
		if utf8.ValidString(held.text) {
			text[f.Key] = held.text
		} else {
			binary[f.Key] = base64.StdEncoding.EncodeToString([]byte(held.text))
		}
		size += len(held.text) + len(f.Key)
		if len(held.text) > largest.size {
			largest = part{f, len(held.text)}
		}
	}
	obj := &unstructured.Unstructured{Object: map[string]any{}}
	obj.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	obj.SetNamespace(spec.Namespace)
	obj.SetName(spec.Name)
	if size > maxConfig {
		return nil, &reconcile.Error{
			Kind: reconcile.Invalid, Op: "make", Object: kubernetes.RefOf(obj).String(),
			Err:  fmt.Errorf("its files hold %d bytes together, and it takes %d; the largest is %s with %d", size, maxConfig, largest, largest.size),
			Hint: "put large files into the image, or on a volume",
		}
	}
	if len(spec.Labels) > 0 {
		obj.SetLabels(spec.Labels)
	}
	if len(text) > 0 {
		obj.Object["data"] = text
	}
	if len(binary) > 0 {
		obj.Object["binaryData"] = binary
	}
	return []Object{{Manifest: obj, Desired: hexOf(sum) + "/" + labelsHash(spec.Labels)}}, nil
}

// part is one file and how much it holds.
type part struct {
	forge.ConfigEntry
	size int
}

func (p part) String() string {
	if p.File != "" {
		return p.File
	}
	return p.Key
}

// tell puts out the checksum of what was applied: what was only asked for must
// not restart anybody yet.
func (*config) tell(_ context.Context, l *Look, o *reconcile.Observed) error {
	for _, e := range l.Record.Entries {
		if _, wanted := l.hashes[e.Ref]; !wanted {
			continue
		}
		if checksum, _, ok := strings.Cut(e.Desired, "/"); ok {
			o.Outputs[forge.OutputChecksum] = reconcile.Output{Value: checksum}
		}
	}
	return nil
}

// field writes s so that no two sequences of fields look alike.
func field(h hash.Hash, s string) { _, _ = fmt.Fprintf(h, "%d:%s", len(s), s) }

func hexOf(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)[:16]) }

func labelsHash(labels map[string]string) string {
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		field(h, k)
		field(h, labels[k])
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

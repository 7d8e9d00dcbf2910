package helm

import (
	"encoding/json"
	"strings"
	"testing"
)

// A List may hold Lists, and be empty: kubectl and Helm take it for what is in
// it, whatever a template has put together.
func TestListsAreWhatIsInThem(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ manifest, want string }{
		"in another": {"# Source: a.yaml\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMapList\n  items:\n" +
			"  - {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n- {apiVersion: v1, kind: Secret, metadata: {name: b}}\n", "ConfigMap a, Secret b"},
		"without items": {"apiVersion: v1\nkind: List\nitems:\n---\napiVersion: v1\nkind: List\n---\n{apiVersion: v1, kind: Secret, metadata: {name: b}}\n", "Secret b"},
	} {
		objs, err := parseManifest("---\n" + test.manifest)
		var got []string
		for _, o := range objs {
			got = append(got, o.GetKind()+" "+o.GetName())
		}
		if err != nil || strings.Join(got, ", ") != test.want {
			t.Errorf("%s: %v, err %v", name, got, err)
		}
	}
	if _, err := parseManifest("---\n# Source: a.yaml\napiVersion: v1\nkind: List\nitems: [just a text]\n"); err == nil || !strings.Contains(err.Error(), "a.yaml") {
		t.Errorf("an item that is none: %v", err)
	}
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

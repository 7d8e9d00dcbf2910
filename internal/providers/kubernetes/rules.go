package kubernetes

import (
	"context"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

// fieldRules are what an environment's policy says about fields of objects.
type fieldRules struct {
	ignore, strict []forge.FieldRule // as they came, to notice a change
	lines          []ruleLine
}

type ruleLine struct {
	kind, name string
	line
}

func (r *fieldRules) of(ref Ref) []line {
	if r == nil {
		return nil
	}
	var lines []line
	for _, l := range r.lines {
		if l.kind == ref.GVK.Kind && (l.name == "" || l.name == ref.Name) {
			lines = append(lines, l.line)
		}
	}
	return lines
}

// Rules has the policy of an environment hold for its objects from now on.
// Every provider calls it before it looks at anything; it costs nothing when
// nothing has changed.
func (cs *Clusters) Rules(r reconcile.Request) error {
	environment := r.Resource.ID.Environment
	cs.rulesMu.RLock()
	old := cs.rules[environment]
	cs.rulesMu.RUnlock()
	if old == nil && len(r.Policy.Ignore) == 0 && len(r.Policy.Strict) == 0 {
		return nil
	}
	if old != nil && reflect.DeepEqual(old.ignore, r.Policy.Ignore) && reflect.DeepEqual(old.strict, r.Policy.Strict) {
		return nil
	}
	rules := &fieldRules{ignore: r.Policy.Ignore, strict: r.Policy.Strict}
	for _, set := range []struct {
		mark  byte
		rules []forge.FieldRule
	}{{markIgnored, r.Policy.Ignore}, {markStrict, r.Policy.Strict}} {
		for _, rule := range set.rules {
			for _, field := range rule.Fields {
				path, err := parsePattern(field)
				if err != nil {
					return &reconcile.Error{Kind: reconcile.Invalid, ID: r.Resource.ID, Op: "read policy", Err: err}
				}
				rules.lines = append(rules.lines, ruleLine{rule.Kind, rule.Name, line{set.mark, field, path}})
			}
		}
	}
	cs.rulesMu.Lock()
	defer cs.rulesMu.Unlock()
	cs.rules[environment] = rules
	return nil
}

func (cs *Clusters) rulesOf(environment string) *fieldRules {
	cs.rulesMu.RLock()
	defer cs.rulesMu.RUnlock()
	return cs.rules[environment]
}

const replicasField = "spec.replicas"

var replicasPattern = pattern{{name: "spec"}, {name: "replicas"}}

// rulesFor are the lines that hold for an object of ours by policy.
func (c *Cluster) rulesFor(ref Ref) []line {
	c.mu.Lock()
	environment := ""
	if t := c.index[ref.id()]; t != nil {
		environment = t.inv.key.environment
	}
	c.mu.Unlock()
	if environment == "" {
		return nil
	}
	return c.clusters.rulesOf(environment).of(ref)
}

// withScaler adds what an autoscaler sets.
func (c *Cluster) withScaler(ctx context.Context, ref Ref, lines []line) ([]line, error) {
	if !mayScale(ref.GVK) {
		return lines, nil
	}
	scaled, err := c.scaled(ctx, ref)
	if err != nil {
		return nil, err
	}
	if scaled {
		lines = append(slices.Clip(lines), line{markScaled, replicasField, replicasPattern})
	}
	return lines, nil
}

// mayScale tells kinds that an autoscaler may change. Of custom resources it
// is not known without asking, and those that are scaled are few.
func mayScale(gvk schema.GroupVersionKind) bool {
	switch gvk.Kind {
	case "Deployment", "StatefulSet", "ReplicaSet":
		return gvk.Group == "apps"
	case "ReplicationController":
		return gvk.Group == ""
	}
	return false
}

// lensFor is the lens through which an object that is about to be applied is
// looked at.
func (c *Cluster) lensFor(ctx context.Context, ref Ref, obj *unstructured.Unstructured) (Lens, error) {
	lines := slices.Clone(c.rulesFor(ref))
	if mayScale(ref.GVK) {
		// A manifest without a number of replicas leaves it to somebody else,
		// also when it had one before.
		if _, set, _ := unstructured.NestedFieldNoCopy(obj.Object, "spec", "replicas"); !set {
			lines = append(lines, line{markGivenUp, replicasField, replicasPattern})
			return lensOf(lines, obj), nil
		}
	}
	lines, err := c.withScaler(ctx, ref, lines)
	if err != nil {
		return "", err
	}
	return lensOf(lines, obj), nil
}

package fks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"forged.dev/forged/internal/fks"
	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// noticeCode is the code of everything that the rules have to say.
const noticeCode = "fks"

// maxTold is how many findings are told one by one.
const maxTold = 20

// Fitter brings objects into the form that a cluster of Fly Kubernetes can run.
type Fitter struct{ build string }

var _ kubernetes.Fitter = Fitter{}

// NewFitter makes one. It remembers nothing: what a cluster can do is kept with
// its connection. The build is that of the program: what a rule does is code of
// it, so that another one may fit the same objects in another way.
func NewFitter(build string) Fitter { return Fitter{build} }

// Fit implements kubernetes.Fitter.
func (f Fitter) Fit(ctx context.Context, c *kubernetes.Cluster, rules forge.Rules, objects []*unstructured.Unstructured) (kubernetes.Fitted, error) {
	switch rules.Table {
	case "":
		return kubernetes.Fitted{Objects: objects}, nil
	case forge.TableFKS:
	default:
		return kubernetes.Fitted{}, reconcile.Errorf(reconcile.Internal, "fit", "there is no table of rules %q", rules.Table)
	}
	has, err := capabilities(ctx, c)
	if err != nil {
		return kubernetes.Fitted{}, err
	}
	fitted, findings := fks.Fit(objects, fks.Options{Allow: rules.Allow, Capabilities: has})
	if err := refusal(findings); err != nil {
		return kubernetes.Fitted{}, err
	}
	return kubernetes.Fitted{
		Objects: fitted, Changes: changes(findings), Notices: notices(findings), Digest: f.digest(rules, has),
	}, nil
}

// capabilities are those of a connected cluster. They cost requests once for
// each connection.
func capabilities(ctx context.Context, c *kubernetes.Cluster) (fks.Capabilities, error) {
	_, apis, err := c.Discovery(ctx)
	if err != nil {
		return fks.Capabilities{}, err
	}
	classes, err := c.Classes(ctx)
	if err != nil {
		return fks.Capabilities{}, err
	}
	has := fks.Capabilities{StorageClasses: classes.Storage, IngressClasses: classes.Ingress}
	for _, api := range apis { // "v1", "v1/Pod", "apps/v1", "apps/v1/Deployment"
		if parts := strings.Split(api, "/"); len(parts) == 2 && strings.HasPrefix(parts[1], "v") {
			has.APIGroups = append(has.APIGroups, parts[0])
		}
	}
	has.APIGroups = slices.Compact(slices.Sorted(slices.Values(has.APIGroups)))
	return has, nil
}

// refusal lists all that cannot run there.
func refusal(findings []fks.Finding) error {
	var lines, rules []string
	for _, f := range findings {
		if f.Action == fks.Error {
			lines = append(lines, line(f))
			rules = append(rules, strconv.Quote(f.Rule))
		}
	}
	if len(lines) == 0 {
		return nil
	}
	if more := len(lines) - maxTold; more > 0 {
		lines = append(lines[:maxTold], fmt.Sprintf("and %d more", more))
	}
	return &reconcile.Error{
		Kind: reconcile.Invalid, Op: "fit to Fly Kubernetes", Err: errors.New(strings.Join(lines, "\n")),
		Hint: "platform: allowUnsupported: [" + strings.Join(slices.Compact(slices.Sorted(slices.Values(rules))), ", ") + "] lets it through as it is",
	}
}

// line says one finding: where, what, and what to do.
func line(f fks.Finding) string {
	s := f.Rule + " " + where(f) + ": " + strings.TrimSuffix(f.Message, ".")
	if f.Hint != "" {
		s += "; " + f.Hint
	}
	return s
}

func where(f fks.Finding) string {
	if f.Path == "" {
		return f.Object
	}
	return f.Object + ", " + f.Path
}

// changes are what was made of the objects, what is harmless last.
func changes(findings []fks.Finding) []reconcile.Change {
	var all, harmless []reconcile.Change
	for _, f := range findings {
		if f.Action != fks.Drop && f.Action != fks.Rewrite {
			continue
		}
		c := reconcile.Change{Path: where(f) + " (" + f.Rule + ")", From: f.From, To: f.To}
		if f.Harmless {
			harmless = append(harmless, c)
			continue
		}
		all = append(all, c)
	}
	return append(all, harmless...)
}

// notices are what a person should know, each rule once: what was taken out, and
// what may not do what it says. What is harmless is nobody's concern. A plan
// shows each place.
func notices(findings []fks.Finding) []reconcile.Notice {
	var rules []string
	of := map[string][]fks.Finding{}
	for _, f := range findings {
		if f.Harmless || f.Action != fks.Warn && f.Action != fks.Drop {
			continue
		}
		if of[f.Rule] == nil {
			rules = append(rules, f.Rule)
		}
		of[f.Rule] = append(of[f.Rule], f)
	}
	all := make([]reconcile.Notice, 0, len(rules))
	for _, rule := range rules {
		first := of[rule][0]
		n := reconcile.Notice{Code: noticeCode, Object: first.Object, Message: rule + ": " + strings.TrimSuffix(first.Message, ".")}
		var objects []string
		for _, f := range of[rule][1:] {
			if f.Object != first.Object && !slices.Contains(objects, f.Object) {
				objects = append(objects, f.Object)
			}
		}
		switch len(objects) {
		case 0:
		case 1:
			n.Message += " (and " + objects[0] + ")"
		default:
			n.Message += fmt.Sprintf(" (and %d other objects)", len(objects))
		}
		all = append(all, n)
	}
	return all
}

// digest changes with the program, since the table cannot tell what its code does,
// with the table, with what is allowed and with what the cluster can do, as far as
// that makes rules void: whatever else is installed there is no reason to fit
// anything anew. Who finds another digest renders again, and rolls out only what
// comes out differently.
func (f Fitter) digest(rules forge.Rules, has fks.Capabilities) string {
	all := has.APIGroups
	has.APIGroups = nil
	var table [][]any // of each row what it does, and not how it tells of that
	for _, r := range fks.Rules() {
		table = append(table, []any{r.ID, r.Action, r.Kinds, r.Path, r.When, r.Unless})
		if group := r.Unless.APIGroup; slices.Contains(all, group) && !slices.Contains(has.APIGroups, group) {
			has.APIGroups = append(has.APIGroups, group)
		}
	}
	b, _ := json.Marshal([]any{f.build, fks.Version, table, rules, has}) // plain data: it never fails
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

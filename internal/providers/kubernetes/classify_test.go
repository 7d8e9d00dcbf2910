package kubernetes

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"forged.dev/forged/internal/reconcile"
)

func TestClassify(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	job := schema.GroupKind{Group: "batch", Kind: "Job"}
	invalid := func(e *field.Error) error { return apierrors.NewInvalid(job, "j", field.ErrorList{e}) }
	terminating := apierrors.NewForbidden(pods, "p", errors.New("namespace is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	status := func(code int, reason metav1.StatusReason, message string) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Status: "Failure", Code: int32(code), Reason: reason, Message: message}}
	}
	for _, tt := range []struct {
		name string
		err  error
		kind reconcile.ErrorKind
		hint string
	}{
		{"bad request", apierrors.NewBadRequest("no"), reconcile.Invalid, ""},
		{"mistake", invalid(field.Required(field.NewPath("spec"), "")), reconcile.Invalid, ""},
		{"immutable", invalid(field.Invalid(field.NewPath("spec", "template"), "x", "field is immutable")), reconcile.Invalid, "kubectl delete job j --namespace n"},
		{"too large", status(http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge, ""), reconcile.Invalid, ""},
		{"schema", status(500, "", "failed to create typed patch object (a/b; /v1, Kind=Pod): .spec.x: field not declared in schema"), reconcile.Invalid, ""},
		{"storage", status(500, "", "etcdserver: request timed out"), reconcile.Unavailable, ""},
		{"unauthorised", apierrors.NewUnauthorized("no"), reconcile.Denied, "renew"},
		{"forbidden", apierrors.NewForbidden(pods, "p", errors.New("no")), reconcile.Denied, "permission"},
		{"namespace going", terminating, reconcile.Unavailable, "being deleted"},
		{"field conflict", apierrors.NewApplyConflict([]metav1.StatusCause{{Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "rival"`}}, "conflict"), reconcile.Conflict, ""},
		{"old resource version", apierrors.NewConflict(pods, "p", errors.New("modified")), reconcile.Stale, ""},
		{"exists", apierrors.NewAlreadyExists(pods, "p"), reconcile.Stale, ""},
		{"not found", apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "n"), reconcile.Unavailable, ""},
		{"throttled", apierrors.NewTooManyRequests("slow", 7), reconcile.Throttled, ""},
		{"gone", apierrors.NewResourceExpired("old"), reconcile.Unavailable, ""},
		{"internal", apierrors.NewInternalError(errors.New("boom")), reconcile.Unavailable, ""},
		{"unavailable", apierrors.NewServiceUnavailable("later"), reconcile.Unavailable, ""},
		{"gateway", apierrors.NewGenericServerResponse(502, "get", pods, "p", "bad gateway", 0, true), reconcile.Unavailable, ""},
		{"timeout", apierrors.NewTimeoutError("slow", 1), reconcile.Unavailable, ""},
		{"refused", &url.Error{Op: "Get", URL: "https://x", Err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}}, reconcile.Unavailable, ""},
		{"deadline", fmt.Errorf("wrapped: %w", context.DeadlineExceeded), reconcile.Unavailable, ""},
		{"cancelled", context.Canceled, reconcile.Unavailable, ""},
		{"wrong certificate", &url.Error{Op: "Get", URL: "https://x", Err: x509.UnknownAuthorityError{}}, reconcile.Denied, "renew"},
		{"anything else", errors.New("what"), reconcile.Internal, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ref := Ref{GVK: schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"}, Namespace: "n", Name: "j"}
			err := Classify("apply", ref, tt.err)
			var e *reconcile.Error
			if !errors.As(err, &e) || e.Kind != tt.kind || !strings.Contains(e.Hint, tt.hint) || e.Op != "apply" || e.Object != "Job n/j" {
				t.Fatalf("%+v, want %s with hint %q", err, tt.kind, tt.hint)
			}
			if e.Error() == "" || e.Err == nil || e.Err.Error() == "" {
				t.Errorf("it does not say why: %q", e)
			}
			if again := Classify("other", Ref{}, fmt.Errorf("wrap: %w", err)); reconcile.KindOf(again) != tt.kind {
				t.Errorf("classified twice: %v", again)
			}
			if (tt.name == "immutable") != IsImmutable(err) {
				t.Errorf("immutable: %v", IsImmutable(err))
			}
		})
	}
	if Classify("apply", Ref{}, nil) != nil {
		t.Error("no error became one")
	}
	var e *reconcile.Error
	if errors.As(Classify("get", Ref{}, apierrors.NewTooManyRequests("slow", 7)), &e); e.After != 7*time.Second {
		t.Errorf("after %s, want 7s", e.After)
	}
}

// What a server says about a Secret may quote it.
func TestClassifyHidesSecrets(t *testing.T) {
	const canary = "c4n4ry"
	ref := secretRef("shop", "app")
	gk := schema.GroupKind{Kind: "Secret"}
	for name, err := range map[string]error{
		"validation": apierrors.NewInvalid(gk, "app", field.ErrorList{field.Invalid(field.NewPath("data").Key("password"), canary, canary+" is too weak")}),
		"request":    apierrors.NewBadRequest("cannot decode " + canary),
		"internal":   apierrors.NewInternalError(errors.New("webhook failed on " + canary)),
		"webhook":    &apierrors.StatusError{ErrStatus: metav1.Status{Code: 403, Reason: metav1.StatusReasonForbidden, Message: `admission webhook "x" denied the request: ` + canary}},
		"schema":     &apierrors.StatusError{ErrStatus: metav1.Status{Code: 500, Message: "failed to create typed patch object: .data.password: expected string, got " + canary}},
	} {
		got := Classify("apply", ref, err)
		for _, text := range []string{fmt.Sprintf("%v %+v %#v", got, got, got), fmt.Sprint(errors.Unwrap(got))} {
			if strings.Contains(text, canary) {
				t.Errorf("%s: %s", name, text)
			}
		}
		if !strings.Contains(got.Error(), "Secret shop/app") {
			t.Errorf("%s: does not say which: %v", name, got)
		}
	}
	got := Classify("apply", ref, apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "app", errors.New(`User "x" cannot patch`)))
	if !strings.Contains(got.Error(), `User "x" cannot patch`) {
		t.Errorf("a refusal of the authorizer has lost its words: %v", got)
	}
}

// The API server puts the whole value of a field that it refuses into its
// answer: a template of a pod with everything in its environment.
func TestClassifyLeavesOutWholeValues(t *testing.T) {
	const canary = "c4n4ry"
	ref := Ref{GVK: schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"}, Namespace: "n", Name: "j"}
	env := []map[string]string{{"name": "A", "value": canary + "}: x: {"}}
	at := field.NewPath("spec", "template")
	for name, test := range map[string]struct {
		errs field.ErrorList
		want string
	}{
		"JSON":      {field.ErrorList{field.Invalid(at, env, "field is immutable")}, `Job.batch "j" is invalid: spec.template: field is immutable`},
		"duplicate": {field.ErrorList{field.Duplicate(at, env)}, `Job.batch "j" is invalid: spec.template: Duplicate value`},
		"long text": {field.ErrorList{field.Invalid(at, strings.Repeat(canary, 50), "too long: by much")}, `Job.batch "j" is invalid: spec.template: too long: by much`},
		"two": {
			field.ErrorList{field.Invalid(at, env, "field is immutable"), field.Invalid(at.Child("x"), "a/b", "no slash")},
			`Job.batch "j" is invalid: [spec.template: field is immutable, spec.template.x: Invalid value: "a/b": no slash]`,
		},
		"short": {field.ErrorList{field.Invalid(at, 7, "too many")}, `Job.batch "j" is invalid: spec.template: Invalid value: 7: too many`},
	} {
		err := Classify("apply", ref, apierrors.NewInvalid(ref.GVK.GroupKind(), "j", test.errs))
		var e *reconcile.Error
		if !errors.As(err, &e) || e.Err.Error() != test.want {
			t.Errorf("%s: %v\nwant %s", name, err, test.want)
		}
	}
	old := apierrors.NewInvalid(ref.GVK.GroupKind(), "j", nil)
	message := `Invalid value: core.PodTemplateSpec{Env:[]core.EnvVar{{Value:"` + canary + `"}}}: field is immutable`
	old.ErrStatus.Message = `Job.batch "j" is invalid: spec.template: ` + message
	old.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeFieldValueInvalid, Field: "spec.template", Message: message}}
	if err := Classify("apply", ref, old); strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "spec.template: field is immutable") || !IsImmutable(err) {
		t.Errorf("of an older server: %v", err)
	}
}

// Somebody has put another object in the place of the one that was meant. Its
// uid is not to be changed back, and it is not to be deleted for it.
func TestClassifyAnotherUID(t *testing.T) {
	ref := Ref{GVK: schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, Namespace: "n", Name: "c"}
	err := Classify("apply", ref, apierrors.NewInvalid(ref.GVK.GroupKind(), "c", field.ErrorList{field.Invalid(field.NewPath("metadata", "uid"), "1-2", "field is immutable")}))
	if reconcile.KindOf(err) != reconcile.Stale || IsImmutable(err) || strings.Contains(err.Error(), "kubectl delete") {
		t.Errorf("%v", err)
	}
}

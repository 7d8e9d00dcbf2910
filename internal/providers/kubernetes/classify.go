package kubernetes

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"forged.dev/forged/internal/reconcile"
)

// Classify turns an error of client-go into one whose kind says how to react.
// nil stays nil and an *reconcile.Error stays as it is. What a server says
// about a Secret is cut down to field names, since it may quote values.
func Classify(op string, ref Ref, err error) error {
	if err == nil {
		return nil
	}
	var known *reconcile.Error
	if errors.As(err, &known) {
		if request := (*url.Error)(nil); errors.As(err, &request) && errors.As(request.Err, &known) {
			// What was in the way of the request knows more than that it failed.
			of := *known
			of.Op, of.Object, of.Err = op, ref.String(), fmt.Errorf("%s: %w", strings.TrimSpace(known.Op+" "+known.Object), known.Err)
			return &of
		}
		return err
	}
	e := &reconcile.Error{Op: op, Object: ref.String(), Err: err}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		classifyStatus(e, ref, status.Status())
		return e
	}
	classifyTransport(e, err)
	return e
}

func classifyStatus(e *reconcile.Error, ref Ref, s metav1.Status) {
	e.Err = errors.New(describe(ref, s))
	switch {
	case hasCause(s, corev1.NamespaceTerminatingCause):
		e.Kind = reconcile.Unavailable
		e.Hint = "the namespace is being deleted; it can be made again when it is gone"
	case s.Code == http.StatusUnauthorized:
		e.Kind = reconcile.Denied
		e.Hint = "the cluster does not accept the credentials of this context; renew them"
	case exhausted(s):
		e.Kind = reconcile.Denied
		e.Hint = "a ResourceQuota of the namespace is used up: raise it, or make room"
	case rejectedBy(s) != "" && s.Code == http.StatusForbidden:
		e.Kind = reconcile.Denied
		e.Hint = "a policy of the cluster rejects it: change what it objects to, or have an exception made"
	case rejectedBy(s) != "":
		e.Kind = reconcile.Invalid
		e.Hint = "a policy of the cluster rejects it: change what it objects to, or have an exception made"
	case oversized(s):
		e.Kind = reconcile.Invalid
		e.Hint = "the API server takes objects of about 1 MiB: make it smaller, or divide it"
	case s.Code == http.StatusForbidden:
		e.Kind = reconcile.Denied
		e.Hint = "grant the permission (forged rbac ENVIRONMENT prints what is needed), or use another context"
	case s.Reason == metav1.StatusReasonAlreadyExists:
		e.Kind = reconcile.Stale
	case s.Code == http.StatusConflict && hasCause(s, metav1.CauseTypeFieldManagerConflict):
		e.Kind = reconcile.Conflict
		e.Hint = "another field manager owns these fields"
	case s.Code == http.StatusConflict:
		e.Kind = reconcile.Stale // of a resource version or a uid
	case s.Code == http.StatusTooManyRequests:
		e.Kind = reconcile.Throttled
		e.After = retryAfter(s)
	case s.Code == http.StatusNotFound:
		e.Kind = reconcile.Unavailable
		e.Hint = "its namespace is not there, or its kind is not served, yet or any more"
	case terminating(s):
		e.Kind = reconcile.Unavailable
		e.Hint = "the definition of its kind is being deleted; it can be made again when the definition is back"
	case another(s):
		e.Kind = reconcile.Stale
	case immutable(s):
		e.Kind = reconcile.Invalid
		e.Err = &immutableError{e.Err.Error()}
		e.Hint = immutableHint(ref, "kubectl")
	case len(crowded(s)) > 0 && !ref.isSecret():
		e.Kind = reconcile.Invalid
		e.Err = &crowdedError{e.Err.Error(), crowded(s)}
	case s.Code == http.StatusBadRequest, s.Code == http.StatusUnprocessableEntity,
		s.Code == http.StatusMethodNotAllowed, s.Code == http.StatusNotAcceptable,
		s.Code == http.StatusRequestEntityTooLarge, s.Code == http.StatusUnsupportedMediaType:
		e.Kind = reconcile.Invalid
	case malformed(s):
		e.Kind = reconcile.Invalid
	case s.Code == http.StatusGone, s.Code >= 500, s.Reason == metav1.StatusReasonTimeout:
		e.Kind = reconcile.Unavailable
	default:
		e.Kind = reconcile.Internal
	}
}

// describe is the server's message, or for a Secret what can be told without
// quoting it.
func describe(ref Ref, s metav1.Status) string {
	quotes := s.Code == http.StatusBadRequest || s.Code == http.StatusUnprocessableEntity || s.Code >= 500 ||
		// A webhook chooses its own words; the authorizer does not.
		s.Code == http.StatusForbidden && strings.Contains(s.Message, "denied the request")
	if !ref.isSecret() || !quotes {
		if s.Message != "" {
			return withoutValues(s)
		}
		return string(s.Reason)
	}
	text := string(s.Reason)
	switch {
	case malformed(s):
		text = "the manifest does not fit the schema of Secrets"
	case text == "":
		text = fmt.Sprintf("status %d", s.Code)
	}
	if by := rejectedBy(s); by != "" {
		text += ": " + by
	}
	if s.Details != nil {
		for _, c := range s.Details.Causes {
			text += fmt.Sprintf("; %s %s", c.Field, c.Type)
		}
	}
	return text + " (the server's words are left out, since they may quote the secret)"
}

// malformed tells a manifest that does not fit its schema. To server-side
// apply the API server answers that with a bare 500, the same as when its
// storage fails; only the words tell them apart.
func malformed(s metav1.Status) bool {
	return s.Code == http.StatusInternalServerError && s.Reason == metav1.StatusReasonUnknown &&
		(strings.HasPrefix(s.Message, "failed to create typed ") || strings.HasPrefix(s.Message, "failed to convert new object "))
}

func hasCause(s metav1.Status, cause metav1.CauseType) bool {
	if s.Details == nil {
		return false
	}
	for _, c := range s.Details.Causes {
		if c.Type == cause {
			return true
		}
	}
	return false
}

// another tells that the object of that name is not the one with the uid that
// was sent. To a patch the API server says so as if the uid could be changed.
func another(s metav1.Status) bool {
	return s.Code == http.StatusUnprocessableEntity && s.Details != nil && slices.ContainsFunc(s.Details.Causes, func(c metav1.StatusCause) bool {
		return c.Field == "metadata.uid" && c.Type == metav1.CauseTypeFieldValueInvalid
	})
}

// immutable looks at the causes: a plain mistake is a 422 just the same.
func immutable(s metav1.Status) bool {
	if s.Code != http.StatusUnprocessableEntity || s.Details == nil {
		return false
	}
	for _, c := range s.Details.Causes {
		switch {
		case c.Type == metav1.CauseTypeFieldValueInvalid && (strings.Contains(c.Message, "immutable") ||
			c.Field == "roleRef" && strings.Contains(c.Message, "cannot change roleRef")):
			return true
		case c.Type == metav1.CauseTypeForbidden && (strings.Contains(c.Message, "immutable") ||
			strings.Contains(c.Message, "updates to statefulset spec") ||
			strings.Contains(c.Message, "after creation")):
			return true
		}
	}
	return false
}

// immutableHint depends on what would be lost by deleting the object.
func immutableHint(ref Ref, kubectl string) string {
	const same = "this field cannot change on an existing object: set it back"
	where := ""
	if ref.Namespace != "" {
		where = " --namespace " + ref.Namespace
	}
	del := fmt.Sprintf("%s delete %s %s%s", kubectl, strings.ToLower(ref.GVK.Kind), ref.Name, where)
	switch ref.GVK.Kind {
	case "PersistentVolumeClaim", "Namespace", "CustomResourceDefinition":
		return same + "; deleting the object would destroy data"
	case "Secret":
		return same + "; deleting it would lose what was generated into it, so keep a copy before it is made again"
	case "StatefulSet":
		return same + ", give leave with policy.recreate, or keep its pods and let it be made again: " + del + " --cascade=orphan"
	default:
		return same + ", give leave with policy.recreate, or let the object be made again: " + del
	}
}

type immutableError struct{ text string }

func (e *immutableError) Error() string { return e.text }

// IsImmutable tells whether an error of Apply says that a field which changed
// can only change by making the object anew.
func IsImmutable(err error) bool {
	var e *immutableError
	return errors.As(err, &e)
}

func retryAfter(s metav1.Status) time.Duration {
	if s.Details != nil && s.Details.RetryAfterSeconds > 0 {
		return time.Duration(s.Details.RetryAfterSeconds) * time.Second
	}
	return time.Second
}

func classifyTransport(e *reconcile.Error, err error) {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		cert      x509.CertificateInvalidError
		network   net.Error
		request   *url.Error
	)
	switch {
	case errors.As(err, &authority), errors.As(err, &host), errors.As(err, &cert):
		e.Kind = reconcile.Denied
		e.Hint = "the server is not the one this context was made for, or its certificate has run out; renew the kubeconfig"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		e.Kind = reconcile.Unavailable
	case errors.As(err, &network), errors.As(err, &request):
		e.Kind = reconcile.Unavailable
	default:
		e.Kind = reconcile.Internal
	}
}

// about adds the object to an error that does not name one.
func about(err error, ref Ref) error {
	var e *reconcile.Error
	if errors.As(err, &e) && e.Object == "" {
		named := *e
		named.Object = ref.String()
		return &named
	}
	return err
}

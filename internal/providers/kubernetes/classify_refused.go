package kubernetes

import (
	"net/http"
	"regexp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// exhausted tells a quota that is used up from a missing right: the API server
// answers both with the same status.
func exhausted(s metav1.Status) bool {
	return s.Code == http.StatusForbidden && strings.Contains(s.Message, "exceeded quota: ")
}

// rejections are how the API server begins to quote an admission policy or a
// webhook. The names are the cluster's own; what follows them is not.
var rejections = []*regexp.Regexp{
	regexp.MustCompile(`ValidatingAdmissionPolicy '[^']{1,253}' with binding '[^']{1,253}' denied request`),
	regexp.MustCompile(`admission webhook "[^"]{1,253}" denied the request`),
}

// rejectedBy says what rejected an object in the course of admission: a policy of
// the cluster, by name. Empty: it was no policy.
func rejectedBy(s metav1.Status) string {
	if s.Code != http.StatusForbidden && s.Code != http.StatusUnprocessableEntity && s.Code != http.StatusBadRequest {
		return ""
	}
	for _, r := range rejections {
		if found := r.FindString(s.Message); found != "" {
			return found
		}
	}
	return ""
}

// oversized tells an object that is too large, which the storage behind the API
// server answers with a plain 500.
func oversized(s metav1.Status) bool {
	return s.Code == http.StatusRequestEntityTooLarge ||
		s.Code == http.StatusInternalServerError && (strings.Contains(s.Message, "etcdserver: request is too large") ||
			strings.Contains(s.Message, "trying to send message larger than max"))
}

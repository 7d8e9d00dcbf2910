package fks

import (
	"encoding/json"
	"net/http"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
)

// Paths below the proxy's own, for API servers and for who runs the sandbox.
const (
	root         = "/_sandbox/"
	tokensPath   = root + "tokens/"   // and the organization
	clustersPath = root + "clusters/" // and the name of an add-on
)

func (h *Host) mux() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+tokensPath+"{org}", h.reviewToken)
	mux.HandleFunc("GET "+clustersPath+"{name}/admission", h.switchAdmission)
	mux.HandleFunc("PUT "+clustersPath+"{name}/admission", h.switchAdmission)
	return mux
}

// reviewToken says whose a bearer token is. Whoever has one of the organization
// may do everything: finer rights are not documented.
func (h *Host) reviewToken(w http.ResponseWriter, r *http.Request) {
	var review authenticationv1.TokenReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	owner, opens := h.platform.OpensClusters(review.Spec.Token, r.PathValue("org"))
	answer(w, &authenticationv1.TokenReview{
		TypeMeta: metav1.TypeMeta{APIVersion: authenticationv1.SchemeGroupVersion.String(), Kind: "TokenReview"},
		Status:   status(owner, opens),
	})
}

func status(owner string, opens bool) authenticationv1.TokenReviewStatus {
	if !opens {
		return authenticationv1.TokenReviewStatus{Error: "token validation error"}
	}
	return authenticationv1.TokenReviewStatus{
		Authenticated: true,
		User:          authenticationv1.UserInfo{Username: owner, Groups: []string{user.SystemPrivilegedGroup}},
	}
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // whoever hung up needs no answer
}

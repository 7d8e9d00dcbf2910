package api

import (
	"net/http"
	"sync"
)

// affinityCookie binds an app's requests to one replica of the Machines API,
// so that what was written is read (flyctl's source).
const affinityCookie = "fly_flaps_affinity"

// affinities is of how many apps a cookie is kept. One that is lost costs a
// stale read, which everybody must bear anyway.
const affinities = 4096

// affinity keeps the cookie of each app. A cookie jar would do it, if it were
// bounded.
type affinity struct {
	mu    sync.Mutex
	ofApp map[string]string
}

func newAffinity() *affinity { return &affinity{ofApp: map[string]string{}} }

func (a *affinity) add(app string, req *http.Request) {
	a.mu.Lock()
	value := a.ofApp[app]
	a.mu.Unlock()
	if value != "" {
		req.AddCookie(&http.Cookie{Name: affinityCookie, Value: value})
	}
}

func (a *affinity) keep(app string, res *http.Response) {
	for _, cookie := range res.Cookies() {
		if cookie.Name != affinityCookie {
			continue
		}
		a.mu.Lock()
		if cookie.MaxAge < 0 || cookie.Value == "" {
			delete(a.ofApp, app)
		} else {
			if _, known := a.ofApp[app]; !known && len(a.ofApp) >= affinities {
				for other := range a.ofApp { // any of them
					delete(a.ofApp, other)
					break
				}
			}
			a.ofApp[app] = cookie.Value
		}
		a.mu.Unlock()
	}
}

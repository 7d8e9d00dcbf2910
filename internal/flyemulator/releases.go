package flyemulator

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"forged.dev/forged/internal/flyemulator/graphql"
)

// release is one of an app, as the console lists it.
type release struct {
	ID         string
	Version    int
	Image      string
	Strategy   string
	Status     string
	Definition json.RawMessage `json:",omitempty"`
	Metadata   json.RawMessage `json:",omitempty"`
	User       string
	Created    time.Time
	Updated    time.Time
}

var strategies = []string{"BLUEGREEN", "CANARY", "IMMEDIATE", "ROLLING", "ROLLING_ONE", "SIMPLE"}

// Statuses of releases: the last three end one.
var releaseStatuses = []string{"pending", "running", "complete", "interrupted", "failed"}

func (r *release) finished() bool { return slices.Index(releaseStatuses, r.Status) >= 2 }

func (r *release) stable() bool { return r.Status == "complete" }

// newRelease notes a release. It is under way until somebody says how it ended.
func (e *Emulator) newRelease(a *app, image, strategy string, definition json.RawMessage, user string) (*release, error) {
	if !slices.Contains(strategies, strategy) {
		return nil, fmt.Errorf("strategy %q is not one of %v", strategy, strategies)
	}
	r := &release{
		ID: strconv.FormatUint(10000+e.next(), 10), Version: 1, Image: image, Strategy: strategy, Status: "pending", Definition: definition,
		User: user, Created: e.now(), Updated: e.now(),
	}
	if n := len(a.Releases); n > 0 {
		r.Version = a.Releases[n-1].Version + 1
	}
	a.Releases = append(a.Releases, r)
	return r, nil
}

// change says how far a release is.
func (e *Emulator) changeRelease(r *release, status string, metadata json.RawMessage) error {
	if r.finished() {
		return errFinished
	}
	if status != "" {
		if !slices.Contains(releaseStatuses, status) {
			return fmt.Errorf("status %q is not one of %v", status, releaseStatuses)
		}
		r.Status = status
	}
	if len(metadata) > 0 {
		r.Metadata = metadata
	}
	r.Updated = e.now()
	return nil
}

// findRelease is the release of an id, and its app.
func (e *Emulator) findRelease(id string) (*app, *release) {
	for _, a := range e.state.Apps {
		for _, r := range a.Releases {
			if r.ID == id {
				return a, r
			}
		}
	}
	return nil, nil
}

// currentRelease is the newest that is complete; while there is none, the
// newest.
func (g *graph) currentRelease(a *app) *release { return a.currentRelease() }

func (a *app) currentRelease() *release {
	for _, r := range slices.Backward(a.Releases) {
		if r.stable() {
			return r
		}
	}
	if n := len(a.Releases); n > 0 {
		return a.Releases[n-1]
	}
	return nil
}

// release is one as GraphQL shows it: as a Release, or as it was sent.
func (g *graph) release(r *release, kind string) any {
	if r == nil {
		return nil
	}
	f := map[string]any{
		"id": r.ID, "version": r.Version, "imageRef": orNil(r.Image), "deploymentStrategy": r.Strategy, "status": r.Status,
		"stable": r.stable(), "inProgress": !r.finished(), "description": "Release", "reason": "deploy", "evaluationId": nil,
		"createdAt": r.Created, "updatedAt": r.Updated, "user": g.user(r.User),
	}
	if kind == "Release" {
		f["metadata"] = plain(r.Metadata)
	} else {
		f["configDefinition"] = plain(r.Definition)
	}
	return graphql.Object{Type: kind, Fields: f}
}

// releases are those of an app, the newest first.
func (g *graph) releases(a *app, kind string) graphql.Resolver {
	return graphql.With(func(in struct {
		window
		Status string
	},
	) (any, error) {
		var out []graphql.Object
		for _, r := range slices.Backward(a.Releases) {
			if in.Status == "" || r.Status == in.Status {
				out = append(out, g.release(r, kind).(graphql.Object))
			}
		}
		return paged(kind, out, in.window)
	})
}

func (g *graph) createRelease(in struct {
	Input struct {
		AppID, Image, Strategy string
		Definition             json.RawMessage
	}
},
) (any, error) {
	a, err := g.findApp(in.Input.AppID)
	if err != nil {
		return nil, err
	}
	r, err := g.e.newRelease(a, in.Input.Image, in.Input.Strategy, in.Input.Definition, g.owner())
	if err != nil {
		return nil, unprocessable(err)
	}
	return g.ofApp("CreateReleasePayload", a, map[string]any{"release": g.release(r, "Release")}), nil
}

func (g *graph) updateRelease(in struct {
	Input struct {
		ReleaseID, Status string
		Metadata          json.RawMessage
	}
},
) (any, error) {
	a, r := g.e.findRelease(in.Input.ReleaseID)
	if r == nil {
		return nil, couldNotFind("Release")
	}
	if _, err := g.findApp(a.Name); err != nil {
		return nil, err
	}
	if err := g.e.changeRelease(r, in.Input.Status, in.Input.Metadata); err != nil {
		return nil, unprocessable(err)
	}
	return g.payload("UpdateReleasePayload", "release", g.release(r, "Release")), nil
}

// createBuild and finishBuild take note of nothing: the client builds.
func (g *graph) createBuild(in struct{ Input struct{ AppName string } }) (any, error) {
	if _, err := g.findApp(in.Input.AppName); err != nil {
		return nil, err
	}
	out := g.payload("CreateBuildPayload", "id", strconv.FormatUint(g.e.next(), 10))
	out.Fields["status"] = "started"
	return out, nil
}

func (g *graph) finishBuild(in struct {
	Input struct{ AppName, BuildID, Status string }
},
) (any, error) {
	if _, err := g.findApp(in.Input.AppName); err != nil {
		return nil, err
	}
	out := g.payload("FinishBuildPayload", "id", in.Input.BuildID)
	out.Fields["status"], out.Fields["wallclockTimeMs"] = in.Input.Status, 0
	return out, nil
}

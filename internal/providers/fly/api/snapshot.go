package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// AppDigest tells whether what belongs to an app has changed. Digests are to be
// compared with earlier ones only: what has changed is to be read.
type AppDigest struct {
	Number       string // tells the app from one that had its name before
	Secrets      string
	IPs          string
	Certificates string
	Err          error // why there is none; NotFound: there is no such app
}

// SnapshotSize is of how many apps one request tells.
const SnapshotSize = 50

// Snapshot tells whether something has changed in any of many apps, in one
// request for each SnapshotSize of them. An app that cannot be told of has Err;
// an error means that of none can be told.
func (c *Client) Snapshot(ctx context.Context, org string, apps []string) (map[string]AppDigest, error) {
	all := make(map[string]AppDigest, len(apps))
	for chunk := range slices.Chunk(slices.Compact(slices.Sorted(slices.Values(apps))), SnapshotSize) {
		if err := c.snapshot(ctx, org, chunk, all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

const digested = `fragment Digest on App {
	name internalNumericId sharedIpAddress
	secrets { name digest }
	ipAddresses(first: 200) { totalCount nodes { address type region serviceName network { name } } }
	certificates(first: 200) { totalCount nodes { hostname clientStatus isConfigured source issued(first: 20) { nodes { type expiresAt } } } }
}`

func (c *Client) snapshot(ctx context.Context, org string, apps []string, all map[string]AppDigest) error {
	var params, fields strings.Builder
	vars := make(map[string]any, len(apps))
	for i, app := range apps {
		fmt.Fprintf(&params, "$n%d: String!, ", i)
		fmt.Fprintf(&fields, "\ta%d: app(name: $n%d) { ...Digest }\n", i, i)
		vars[fmt.Sprintf("n%d", i)] = app
	}
	var complaints []complaint
	op := operation{
		action: "app.snapshot", ident: org, repeat: true, vars: vars,
		text: "query(" + strings.TrimSuffix(params.String(), ", ") + ") {\n" + fields.String() + "}\n" + digested,
	}
	r := op.request()
	var hidden hider
	r.fails = func(body []byte, hide hider) error {
		hidden = hide
		var err error
		if complaints, err = complaintsOf(body); err != nil {
			return err
		}
		if whole := slices.DeleteFunc(slices.Clone(complaints), func(c complaint) bool { return aliasOf(c, len(apps)) >= 0 }); len(whole) > 0 {
			return graphError(whole, true, hide)
		}
		return nil
	}
	reply, err := send[data[map[string]*digestedApp]](ctx, c, r)
	switch {
	case err != nil && len(apps) > 1 && KindOf(err) == NotFound:
		// One is missing, and the answer does not tell which.
		half := len(apps) / 2
		return errors.Join(c.snapshot(ctx, org, apps[:half], all), c.snapshot(ctx, org, apps[half:], all))
	case err != nil && KindOf(err) == NotFound:
		all[apps[0]] = AppDigest{Err: err}
		return nil
	case err != nil:
		return err
	}
	failed := map[int][]complaint{}
	for _, complaint := range complaints {
		i := aliasOf(complaint, len(apps))
		failed[i] = append(failed[i], complaint)
	}
	for i, app := range apps {
		got := reply.Data[fmt.Sprintf("a%d", i)]
		switch {
		case failed[i] != nil:
			e := graphError(failed[i], true, hidden)
			e.Action, e.Method, e.Path, e.Status = r.action, r.method, r.path, 200
			all[app] = AppDigest{Err: e}
		case got == nil:
			all[app] = AppDigest{Err: &Error{Kind: NotFound, Action: r.action, Method: r.method, Path: r.path, Status: 200, Text: "Could not find App"}}
		default:
			all[app] = got.digest()
		}
	}
	return nil
}

// aliasOf is which app a complaint is about; -1: about the whole.
func aliasOf(c complaint, apps int) int {
	if len(c.Path) == 0 {
		return -1
	}
	name, _ := c.Path[0].(string)
	for i := range apps {
		if name == fmt.Sprintf("a%d", i) {
			return i
		}
	}
	return -1
}

// digestedApp is what is digested: lists of whatever Fly answers, in any order.
type digestedApp struct {
	Number       json.RawMessage   `json:"internalNumericId"`
	Shared       json.RawMessage   `json:"sharedIpAddress"`
	Secrets      []json.RawMessage `json:"secrets"`
	IPs          digestedList      `json:"ipAddresses"`
	Certificates digestedList      `json:"certificates"`
}

type digestedList struct {
	Total int               `json:"totalCount"`
	Nodes []json.RawMessage `json:"nodes"`
}

func (a digestedApp) digest() AppDigest {
	return AppDigest{
		Number:       string(a.Number),
		Secrets:      digest(a.Secrets),
		IPs:          digest(append(a.IPs.Nodes, a.Shared, total(a.IPs))),
		Certificates: digest(append(a.Certificates.Nodes, total(a.Certificates))),
	}
}

func total(l digestedList) json.RawMessage { return fmt.Appendf(nil, "total %d", l.Total) }

func digest(parts []json.RawMessage) string {
	texts := make([]string, len(parts))
	for i, part := range parts {
		texts[i] = string(part)
	}
	slices.Sort(texts)
	h := sha256.New()
	for _, text := range texts {
		fmt.Fprintf(h, "%d:%s,", len(text), text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

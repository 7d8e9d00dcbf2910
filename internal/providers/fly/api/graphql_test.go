package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

func TestGraphQLErrors(t *testing.T) {
	for _, tt := range []struct {
		body  string
		want  Kind
		field string
	}{
		{`{"data":null,"errors":[{"message":"Could not find App","path":["app"],"extensions":{"code":"NOT_FOUND"}}]}`, NotFound, ""},
		{`{"data":{"app":null},"errors":[{"message":"Could not find App"}]}`, NotFound, ""},
		{`{"data":{"app":null},"errors":[{"message":"Could not find App billing"}]}`, NotFound, ""},
		{`{"errors":[{"message":"You must be authenticated to view this.","extensions":{"code":"UNAUTHORIZED"}}]}`, Denied, ""},
		{`{"errors":[{"message":"You must be authenticated to view this."}]}`, Unauthenticated, ""},
		{`{"errors":[{"message":"Not authorized to access this Organization"}]}`, Denied, ""},
		{`{"errors":[{"message":"Field 'rawSlug' doesn't exist on type 'Organization'","extensions":{"code":"undefinedField"}}]}`, SchemaDrift, "rawSlug"},
		{`{"errors":[{"message":"Cannot query field \"rawSlug\" on type \"Organization\"."}]}`, SchemaDrift, "rawSlug"},
		{`{"errors":[{"message":"InputObject 'CreateAddOnInput' doesn't accept argument 'options'"}]}`, SchemaDrift, "options"},
		{`{"errors":[{"message":"Field 'addCertificate' doesn't accept argument 'appName'"}]}`, SchemaDrift, "appName"},
		{`{"errors":[{"message":"Unknown argument \"slug\" on field \"Queries.organization\"."}]}`, SchemaDrift, "slug"},
		{`{"errors":[{"message":"Variable $input of type UpdateAddOnInput! was provided invalid value for prodPack (Field is not defined on UpdateAddOnInput)"}]}`, SchemaDrift, "prodPack"},
		{`{"errors":[{"message":"Field \"prodPack\" is not defined by type \"UpdateAddOnInput\"."}]}`, SchemaDrift, "prodPack"},
		{`{"errors":[{"message":"something","extensions":{"code":"GRAPHQL_VALIDATION_FAILED"}}]}`, SchemaDrift, ""},
		{`{"errors":[{"message":"Validation failed: Name has already been taken"}]}`, Taken, ""},
		{`{"errors":[{"message":"Please add a payment method"}]}`, Payment, ""},
		{`{"errors":[{"message":"Plan is not one of ours"},{"message":"Internal server error"}]}`, Unavailable, ""},
		{`{"errors":[{"message":"Region is unknown"}]}`, Invalid, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, err := newClient(t, answers(says(200, tt.body))).Organization(t.Context(), "o")
			if e := asError(t, err); e.Kind != tt.want || e.Field != tt.field || e.Action != "organization.get" {
				t.Errorf("%s is %q of %q: %v", tt.body, e.Kind, e.Field, err)
			}
		})
	}
}

func TestGraphQLThatFailsWhileItWrites(t *testing.T) {
	_, err := newClient(t, answers(says(200, `{"errors":[{"message":"Internal server error"}]}`))).CreateAddOn(t.Context(), CreateAddOn{Type: AddOnRedis})
	if KindOf(err) != Ambiguous {
		t.Error(err)
	}
}

func TestAbsentIsNotFound(t *testing.T) {
	c := newClient(t, answers(says(200, `{"data":{"addOn":null,"organization":null}}`)))
	_, err1 := c.AddOn(t.Context(), "a", AddOnRedis)
	_, err2 := c.Organization(t.Context(), "o")
	_, err3 := c.AddOns(t.Context(), "o", AddOnRedis)
	_, err4 := c.LimitedTokens(t.Context(), "o")
	for _, err := range []error{err1, err2, err3, err4} {
		if KindOf(err) != NotFound {
			t.Error(err)
		}
	}
}

// TestAddOn: what is secret of it is not printed.
func TestAddOn(t *testing.T) {
	got, _ := asked(t, 200, `{"data":{"addOn":{"id":"1","name":"cache","status":"ready","errorMessage":null,"primaryRegion":"cdg","readRegions":["lhr"],
		"publicUrl":"redis://default:pw123@fly-cache.upstash.io:6379","password":"pw123","options":{"eviction":true},
		"metadata":"{\"kubeconfig\":\"apiVersion: pw123\",\"owner\":\"me\"}","addOnPlanName":"payg","addOnPlan":{"id":"p1","name":"payg"},"organization":{"slug":"o"}}}}`,
		func(ctx context.Context, c *Client) (AddOn, error) { return c.AddOn(ctx, "cache", AddOnRedis) })
	if got.PlanID != "p1" || got.Org != "o" || got.Options["eviction"] != true || got.Metadata["owner"] != "me" ||
		string(got.PublicURL.Reveal()) != "redis://default:pw123@fly-cache.upstash.io:6379" || string(got.Kubeconfig.Reveal()) != "apiVersion: pw123" {
		t.Errorf("%+v", got)
	}
	b, _ := json.Marshal(got)
	if text := fmt.Sprintf("%+v %#v %s", got, got, b); strings.Contains(text, "pw123") {
		t.Error(text)
	}
}

func TestAddOnsPages(t *testing.T) { synctest.Test(t, testAddOnsPages) }

func testAddOnsPages(t *testing.T) {
	f := answers(
		says(200, `{"data":{"organization":{"addOns":{"nodes":[{"name":"a"}],"pageInfo":{"hasNextPage":true,"endCursor":"c1"}}}}}`),
		says(200, `{"data":{"organization":{"addOns":{"nodes":[{"name":"b"}],"pageInfo":{"hasNextPage":false,"endCursor":"c2"}}}}}`),
	)
	got, err := newClient(t, f).AddOns(t.Context(), "o", AddOnRedis)
	if err != nil || len(got) != 2 || !strings.Contains(f.requests()[1].body, `"after":"c1"`) {
		t.Errorf("%+v, %v", got, err)
	}
}

// variables are those of the last request.
func variables(t *testing.T, f *fake) map[string]any {
	t.Helper()
	var body struct{ Variables map[string]any }
	all := f.requests()
	if err := json.Unmarshal([]byte(all[len(all)-1].body), &body); err != nil {
		t.Fatal(err)
	}
	return body.Variables
}

// TestUpdateOfAddOnLeavesOut: what is not asked for is not sent, least of all
// ProdPack.
func TestUpdateOfAddOnLeavesOut(t *testing.T) { synctest.Test(t, testUpdateOfAddOn) }

func testUpdateOfAddOn(t *testing.T) {
	f := answers(says(200, `{"data":{"updateAddOn":{"addOn":{"id":"1"}}}}`))
	c := newClient(t, f)
	if _, err := c.UpdateAddOn(t.Context(), UpdateAddOn{ID: "1", Metadata: map[string]any{"owner": "me"}}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(variables(t, f)["input"]); got != "map[addOnId:1 metadata:map[owner:me]]" {
		t.Error(got)
	}
	if _, err := c.UpdateAddOn(t.Context(), UpdateAddOn{ID: "1", ReadRegions: new([]string), ProdPack: new(false), PlanID: new("p")}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(variables(t, f)["input"]); got != "map[addOnId:1 planId:p prodPack:false readRegions:[]]" {
		t.Error(got)
	}
}

func TestLimitedToken(t *testing.T) {
	f := answers(says(200, `{"data":{"createLimitedAccessToken":{"limitedAccessToken":{"id":"t1","name":"n","expiresAt":"2026-01-02T03:04:05Z","tokenHeader":"FlyV1 fm2_new"}}}}`))
	got, err := newClient(t, f).CreateLimitedToken(t.Context(), CreateLimitedToken{Name: "n", OrgID: "1", Profile: TokenOfOrg, Expiry: 3600e9})
	if err != nil || string(got.Header.Reveal()) != "FlyV1 fm2_new" || got.ExpiresAt.IsZero() || strings.Contains(fmt.Sprintf("%+v", got), "fm2") {
		t.Errorf("%+v, %v", got, err)
	}
	if got := fmt.Sprint(variables(t, f)["input"]); got != "map[expiry:1h0m0s name:n organizationId:1 profile:deploy_organization profileParams:map[]]" {
		t.Error(got)
	}
}

// apps answers a Snapshot; missing are not there, and untold says so without
// telling which.
func apps(t *testing.T, secrets map[string]string, untold bool) *fake {
	f := &fake{}
	f.serve = func(w http.ResponseWriter, r *http.Request) {
		data, complaints := map[string]any{}, []any{}
		for key, name := range variables(t, f) {
			alias := "a" + key[1:]
			digest, ok := secrets[name.(string)]
			if !ok {
				data[alias] = nil
				complaint := map[string]any{"message": "Could not find App"}
				if !untold {
					complaint["path"] = []any{alias}
				}
				complaints = append(complaints, complaint)
				continue
			}
			data[alias] = map[string]any{
				"name": name, "sharedIpAddress": "66.241.124.1", "secrets": []any{map[string]any{"name": "A", "digest": digest}, map[string]any{"name": "B", "digest": "b"}},
				"ipAddresses":  map[string]any{"totalCount": 0, "nodes": []any{}},
				"certificates": map[string]any{"totalCount": 1, "nodes": []any{map[string]any{"hostname": "h"}}},
			}
			if digest == "reversed" {
				data[alias].(map[string]any)["secrets"] = []any{map[string]any{"name": "B", "digest": "b"}, map[string]any{"name": "A", "digest": "1"}}
			}
		}
		body := map[string]any{"data": data, "errors": complaints}
		if untold && len(complaints) > 0 {
			body["data"] = nil
		}
		b, _ := json.Marshal(body)
		says(200, string(b))(w, r)
	}
	return f
}

func TestSnapshot(t *testing.T) {
	for _, untold := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			secrets := map[string]string{"shop": "1", "same": "reversed", "other": "2"}
			f := apps(t, secrets, untold)
			c := newClient(t, f)
			got, err := c.Snapshot(t.Context(), "o", []string{"shop", "missing", "same", "other", "shop"})
			if err != nil || len(got) != 4 {
				t.Fatalf("%+v, %v", got, err)
			}
			if requests := len(f.requests()); !untold && requests != 1 {
				t.Errorf("%d requests", requests)
			}
			switch {
			case KindOf(got["missing"].Err) != NotFound:
				t.Errorf("missing: %v", got["missing"].Err)
			case got["shop"] != got["same"] || got["shop"].Err != nil:
				t.Errorf("order counts: %+v %+v", got["shop"], got["same"])
			case got["shop"].Secrets == got["other"].Secrets || got["shop"].IPs != got["other"].IPs:
				t.Errorf("%+v %+v", got["shop"], got["other"])
			}
		})
	}
}

func TestSnapshotInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secrets := map[string]string{}
		var names []string
		for i := range 2*SnapshotSize + 1 {
			name := fmt.Sprintf("app-%03d", i)
			names = append(names, name)
			secrets[name] = "x"
		}
		f := apps(t, secrets, false)
		got, err := newClient(t, f).Snapshot(t.Context(), "o", names)
		if err != nil || len(got) != len(names) || len(f.requests()) != 3 {
			t.Errorf("%d apps in %d requests, %v", len(got), len(f.requests()), err)
		}
		for name, digest := range got {
			if digest.Err != nil || digest.Secrets == "" || !slices.Contains(names, name) {
				t.Errorf("%s: %+v", name, digest)
			}
		}
	})
}

// TestSnapshotOfAnotherSchema: nothing is told of any app, and least that it is
// not there.
func TestSnapshotOfAnotherSchema(t *testing.T) {
	for body, want := range map[string]Kind{
		`{"errors":[{"message":"Field 'secrets' doesn't exist on type 'App'","path":["fragment Digest","secrets"]}]}`: SchemaDrift,
		`{"errors":[{"message":"Not authorized"}]}`: Denied,
	} {
		f := answers(says(200, body))
		got, err := newClient(t, f).Snapshot(t.Context(), "o", []string{"a", "b"})
		if KindOf(err) != want || got != nil {
			t.Errorf("%+v, %v", got, err)
		}
	}
	got, err := newClient(t, answers(says(200, `{"data":{"a0":null,"a1":null},"errors":[{"message":"oops","path":["a0"]}]}`))).Snapshot(t.Context(), "o", []string{"a", "b"})
	if err != nil || KindOf(got["a"].Err) != Invalid || KindOf(got["b"].Err) != NotFound {
		t.Errorf("%+v, %v", got, err)
	}
}

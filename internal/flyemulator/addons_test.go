package flyemulator

import (
	"strings"
	"testing"
	"time"
)

const createRedis = `mutation($i:CreateAddOnInput!){createAddOn(input:$i){addOn{id name status publicUrl password options primaryRegion readRegions addOnPlanName organization{slug}}}}`

// redis is what a database is asked for with; more are pairs.
func redis(org, name string, more ...any) map[string]any {
	in := map[string]any{"type": "upstash_redis", "organizationId": org, "name": name, "primaryRegion": "iad"}
	for i := 0; i < len(more); i += 2 {
		in[more[i].(string)] = more[i+1]
	}
	return in
}

const addOnStatus = `query($n:String!,$p:String){addOn(name:$n,provider:$p){id status errorMessage options metadata readRegions addOnPlan{id name} publicUrl password}}`

func TestAddOnIsReadyAfterAWhile(t *testing.T) {
	in(t, Options{}, func(w *world) {
		org := w.orgID("acme")
		v := w.graphOK(createRedis, "i", redis(org, "cache", "readRegions", []string{"fra"}, "options", map[string]any{"eviction": true}))
		w.says(v, "data.createAddOn.addOn.status", "provisioning")
		w.says(v, "data.createAddOn.addOn.addOnPlanName", "Pay-as-you-go")
		w.says(v, "data.createAddOn.addOn.readRegions.0", "fra")
		w.says(v, "data.createAddOn.addOn.options.eviction", true)
		password, _ := v.at("data.createAddOn.addOn.password").(string)
		if url := v.at("data.createAddOn.addOn.publicUrl"); url != "redis://default:"+password+"@fly-cache.upstash.io:6379" || len(password) != 32 {
			w.Errorf("the URL is %v, the password %q", url, password)
		}
		pass(9 * time.Second)
		w.says(w.graphOK(addOnStatus, "n", "cache", "p", "upstash_redis"), "data.addOn.status", "provisioning")
		pass(2 * time.Second)
		v = w.graphOK(addOnStatus, "n", "cache")
		w.says(v, "data.addOn.status", "ready")
		w.says(v, "data.addOn.password", password)

		v = w.graphOK(`{addOns(type:upstash_redis){nodes{name}totalCount} old:addOns(type:redis){totalCount} other:addOns(type:kubernetes){totalCount}
			organization(slug:"acme"){addOns(type:upstash_redis,first:50){nodes{name} pageInfo{hasNextPage}}}}`)
		w.says(v, "data.addOns.nodes.0.name", "cache")
		w.says(v, "data.old.totalCount", 1)
		w.says(v, "data.other.totalCount", 0)
		w.says(v, "data.organization.addOns.pageInfo.hasNextPage", false)

		v = w.graphOK(`mutation{resetAddOnPassword(input:{name:"cache"}){addOn{password}}}`)
		if v.at("data.resetAddOnPassword.addOn.password") == password {
			w.Error("the password is the old one")
		}
		w.says(w.graphOK(`mutation{deleteAddOn(input:{name:"cache",provider:"upstash_redis"}){deletedAddOnName}}`), "data.deleteAddOn.deletedAddOnName", "cache")
		w.graphFails(codeNotFound, "Could not find AddOn", addOnStatus, "n", "cache")
		w.graphFails(codeNotFound, "Could not find AddOn", `mutation{deleteAddOn(input:{name:"cache"}){deletedAddOnName}}`)
	})
}

func TestAddOnsAreRefused(t *testing.T) {
	o := Options{Orgs: []Org{{Slug: "acme"}, {Slug: "poor", Unpaid: true}, {Slug: "other"}}, Tokens: []Token{
		{Value: DefaultToken, Kind: OrgToken, Org: "acme"}, {Value: "fm2_poor", Kind: OrgToken, Org: "poor"}, {Value: "fm2_other", Kind: OrgToken, Org: "other"},
	}}
	in(t, o, func(w *world) {
		org := w.orgID("acme")
		w.graphOK(createRedis, "i", redis(org, "cache"))
		for name, c := range map[string]struct {
			in   map[string]any
			text string
		}{
			"a name that is taken":       {redis(org, "cache"), "Name has already been taken"},
			"a name that is none":        {redis(org, "no name"), "Name is invalid"},
			"no region":                  {redis(org, "a", "primaryRegion", ""), "Primary region"},
			"a region without it":        {redis(org, "a", "primaryRegion", "jnb"), "Primary region"},
			"the primary region to read": {redis(org, "a", "readRegions", []string{"iad"}), "Read region"},
			"an unknown plan":            {redis(org, "a", "planId", "nothing"), "Could not find AddOnPlan"},
			"options that are none":      {redis(org, "a", "options", "x"), "Options must be an object"},
			"a type that is not run":     {redis(org, "a", "type", "supabase"), "Could not find AddOnProvider"},
			"a beta":                     {redis(org, "a", "type", "kubernetes"), "is in beta"},
			"terms not agreed to":        {redis(org, "a", "type", "tigris"), "Terms of Service"},
		} {
			w.graphFails(codeInvalid, c.text, createRedis, "i", c.in)
			if v := w.graphOK(`{addOns{totalCount}}`); v.at("data.addOns.totalCount") != 1.0 {
				w.Errorf("%s: something was made: %s", name, v.raw)
			}
		}
		w.graphFails(codeNotFound, "Could not find Organization", createRedis, "i", redis("nobody", "a"))
		w.graphFails(codeNotFound, "Could not find Organization", createRedis, "i", map[string]any{"type": "upstash_redis"})

		// Agreed to, it is made.
		w.says(w.graphOK(`{organization(slug:"acme"){agreedToProviderTos(providerName:"tigris")}}`), "data.organization.agreedToProviderTos", false)
		w.graphOK(`mutation($o:ID!){createExtensionTosAgreement(input:{addOnProviderName:"tigris",organizationId:$o}){clientMutationId}}`, "o", org)
		w.says(w.graphOK(`{organization(slug:"acme"){agreedToProviderTos(providerName:"tigris")}}`), "data.organization.agreedToProviderTos", true)
		w.graphOK(createRedis, "i", redis(org, "bucket", "type", "tigris"))

		// Names are Upstash's: another organization's are taken too, and its databases are not seen.
		w.token = "fm2_other"
		w.graphFails(codeInvalid, "already been taken", createRedis, "i", redis(w.orgID("other"), "cache"))
		w.graphFails(codeNotFound, "Could not find AddOn", addOnStatus, "n", "cache")
		w.token = "fm2_poor"
		w.graphFails(codeInvalid, "We need your payment information", createRedis, "i", redis(w.orgID("poor"), "a"))
	})
}

func TestAddOnUpdateReplacesWhatItNames(t *testing.T) {
	in(t, Options{}, func(w *world) {
		v := w.graphOK(createRedis, "i", redis(w.orgID("acme"), "cache", "readRegions", []string{"fra"},
			"options", map[string]any{"eviction": true, "auto_upgrade": true, "prod_pack": true}))
		id := v.at("data.createAddOn.addOn.id")
		plans := w.graphOK(`{addOnPlans(type:upstash_redis){nodes{id displayName pricePerMonth}}}`)
		update := func(more ...any) value {
			w.Helper()
			in := map[string]any{"addOnId": id}
			for i := 0; i < len(more); i += 2 {
				in[more[i].(string)] = more[i+1]
			}
			w.graphOK(`mutation($i:UpdateAddOnInput!){updateAddOn(input:$i){addOn{id}}}`, "i", in)
			return w.graphOK(addOnStatus, "n", "cache")
		}
		v = update("planId", plans.at("data.addOnPlans.nodes.2.id"))
		w.says(v, "data.addOn.addOnPlan.name", "fixed_1gb")
		w.says(v, "data.addOn.options.eviction", true)
		w.says(v, "data.addOn.readRegions.0", "fra")

		// Options are replaced as a whole; the production pack stays.
		v = update("options", map[string]any{"eviction": false})
		w.says(v, "data.addOn.options.eviction", false)
		w.says(v, "data.addOn.options.auto_upgrade", nil)
		w.says(v, "data.addOn.options.prod_pack", true)
		v = update("prodPack", false, "planId", plans.at("data.addOnPlans.nodes.2.id"))
		w.says(v, "data.addOn.options.prod_pack", nil)
		w.says(v, "data.addOn.options.eviction", false)

		v = update("readRegions", []string{}, "metadata", map[string]any{"owner": "forged"})
		w.says(v, "data.addOn.readRegions.0", nil)
		w.says(v, "data.addOn.metadata.owner", "forged")
		v = update("metadata", map[string]any{"other": "x"})
		w.says(v, "data.addOn.metadata.owner", nil)

		// What is refused changes nothing.
		w.graphFails(codeInvalid, "production pack", `mutation($i:UpdateAddOnInput!){updateAddOn(input:$i){addOn{id}}}`, "i", map[string]any{"addOnId": id, "prodPack": true})
		w.graphFails(codeInvalid, "Read region", `mutation($i:UpdateAddOnInput!){updateAddOn(input:$i){addOn{id}}}`, "i",
			map[string]any{"addOnId": id, "planId": plans.at("data.addOnPlans.nodes.0.id"), "readRegions": []string{"iad"}})
		w.says(w.graphOK(addOnStatus, "n", "cache"), "data.addOn.addOnPlan.name", "fixed_1gb")
		w.graphFails("", "Field is not defined on UpdateAddOnInput", `mutation($i:UpdateAddOnInput!){updateAddOn(input:$i){addOn{id}}}`, "i", map[string]any{"addOnId": id, "primaryRegion": "fra"})
	})
}

func TestAddOnCanFail(t *testing.T) {
	in(t, Options{}, func(w *world) {
		org := w.orgID("acme")
		w.e.SetMode(ModeAddOn, "error")
		w.graphOK(createRedis, "i", redis(org, "broken"))
		w.e.SetMode(ModeAddOn, "stuck")
		w.graphOK(createRedis, "i", redis(org, "stuck"))
		pass(time.Hour)
		v := w.graphOK(addOnStatus, "n", "broken")
		w.says(v, "data.addOn.status", "error")
		w.says(v, "data.addOn.errorMessage", "provisioning failed")
		w.says(w.graphOK(addOnStatus, "n", "stuck"), "data.addOn.status", "provisioning")
	})
}

func TestKubernetesAddOn(t *testing.T) {
	create := `mutation($o:ID!){createAddOn(input:{type:kubernetes,organizationId:$o,name:"k",primaryRegion:"iad"}){addOn{id metadata}}}`
	in(t, Options{}, func(w *world) {
		v := w.graphOK(create, "o", w.orgID("acme"))
		w.says(v, "data.createAddOn.addOn.metadata.kubeconfig", nil)
		pass(11 * time.Second)
		v = w.graphOK(addOnStatus, "n", "k", "p", "kubernetes")
		kubeconfig, _ := v.at("data.addOn.metadata.kubeconfig").(string)
		for _, want := range []string{"https://fks-acme-k.flycast:6443", "kubectl-token", "org: acme"} {
			if !strings.Contains(kubeconfig, want) {
				w.Errorf("the kubeconfig lacks %q: %s", want, kubeconfig)
			}
		}
		// What the user writes stays beside it.
		w.graphOK(`mutation($i:UpdateAddOnInput!){updateAddOn(input:$i){addOn{id}}}`, "i", map[string]any{"name": "k", "provider": "kubernetes", "metadata": map[string]any{"a": 1}})
		v = w.graphOK(addOnStatus, "n", "k")
		w.says(v, "data.addOn.metadata.a", 1)
		w.says(v, "data.addOn.metadata.kubeconfig", kubeconfig)

		// The app that the pods run in is there, and goes with it.
		apps := func() (n int) {
			for name := range w.e.state.Apps {
				if strings.HasPrefix(name, "fks-") {
					n++
				}
			}
			return n
		}
		if apps() != 1 {
			w.Errorf("%d apps of the cluster", apps())
		}
		w.graphOK(`mutation{deleteAddOn(input:{name:"k",provider:"kubernetes"}){deletedAddOnName}}`)
		if apps() != 0 {
			w.Error("the app of the cluster is still there")
		}
	})
	in(t, Options{Kubeconfig: func(name string) string { return "the way into " + name }}, func(w *world) {
		w.graphOK(create, "o", w.orgID("acme"))
		pass(11 * time.Second)
		w.says(w.graphOK(addOnStatus, "n", "k"), "data.addOn.metadata.kubeconfig", "the way into k")
	})
}

func TestAddOnProvidersAndPlans(t *testing.T) {
	in(t, Options{}, func(w *world) {
		v := w.graphOK(`{r:addOnProvider(name:"upstash_redis"){asyncProvisioning internal tosAgreement selectReplicaRegions excludedRegions{code}}
			k:addOnProvider(name:"kubernetes"){asyncProvisioning beta internal} t:addOnProvider(name:"tigris"){tosAgreement tosUrl}
			addOnPlans(type:upstash_redis){nodes{id displayName}} none:addOnPlans(type:kubernetes){totalCount}}`)
		w.says(v, "data.r.excludedRegions.0.code", "jnb")
		w.says(v, "data.r.tosAgreement", nil)
		w.says(v, "data.k.asyncProvisioning", true)
		w.says(v, "data.k.beta", true)
		w.says(v, "data.t.tosAgreement", "Terms of Service")
		w.says(v, "data.addOnPlans.nodes.0.id", "ekQ85Yjkw155ohQ5ALYq0M")
		w.says(v, "data.addOnPlans.nodes.0.displayName", "Pay-as-you-go")
		w.says(v, "data.none.totalCount", 0)
		w.graphFails(codeNotFound, "Could not find AddOnProvider", `{addOnProvider(name:"nobody"){id}}`)
	})
}

func TestAddOnSurvivesSaving(t *testing.T) {
	in(t, Options{}, func(w *world) {
		w.graphOK(createRedis, "i", redis(w.orgID("acme"), "cache", "options", map[string]any{"eviction": true}))
		var saved strings.Builder
		if err := w.e.Save(&saved); err != nil {
			w.Fatal(err)
		}
		other := New(Options{})
		defer other.Close()
		if err := other.Load(strings.NewReader(saved.String())); err != nil {
			w.Fatal(err)
		}
		there := &world{T: w.T, e: other, token: DefaultToken}
		there.client = newClient(other)
		pass(11 * time.Second)
		v := there.graphOK(addOnStatus, "n", "cache")
		there.says(v, "data.addOn.status", "ready")
		there.says(v, "data.addOn.options.eviction", true)
	})
}

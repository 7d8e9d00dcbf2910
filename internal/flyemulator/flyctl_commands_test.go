package flyemulator

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// commands are those that people type, with the requests that flyctl's source
// has for each.
func commands() []command {
	return slices.Concat(appCommands(), machineCommands(), deployCommands(), addOnCommands(), postgresCommands(), lastCommands())
}

func appCommands() []command {
	return []command{
		{"apps create shop --org acme", func(f *flyctl) {
			f.orgs()
			f.send("POST", "/v1/apps?wait=true", `{"name":"shop","org_slug":"acme","network":"","app_role_id":""}`, nil)
		}, func(f *flyctl) {
			f.shop(func(a *app) {
				if a.Org != "acme" || a.Network != "" {
					f.Errorf("the app is %+v", a)
				}
			})
		}},
		{"apps list", func(f *flyctl) {
			var v struct {
				Apps struct {
					PageInfo struct {
						HasNextPage bool
						EndCursor   string
					}
					Nodes []ctlApp
				}
			}
			f.graph(`query($org: ID, $role: String, $after: String) { apps(type: "container", first: 200, after: $after, organizationId: $org, role: $role) {
				pageInfo { hasNextPage endCursor } nodes { id name deployed hostname platformVersion organization { slug name } currentRelease { createdAt status } status } } }`, &v, "after", "")
			if len(v.Apps.Nodes) != 1 || v.Apps.Nodes[0].Name != "shop" || v.Apps.Nodes[0].Status != "pending" {
				f.Errorf("the apps are %+v", v.Apps)
			}
		}, func(*flyctl) {}},
		{"secrets set A=1 B=2 -a shop --stage", func(f *flyctl) {
			f.compact()
			f.send("POST", "/v1/apps/shop/secrets", `{"values":{"A":"1","B":"2"}}`, &struct{ Version uint64 }{})
		}, func(f *flyctl) {
			f.shop(func(a *app) {
				if len(a.Secrets.Values) != 2 || a.Secrets.Values["B"].Value != "2" {
					f.Errorf("the secrets are %v", a.Secrets.Values)
				}
			})
		}},
		{"secrets list -a shop", func(f *flyctl) {
			f.compact()
			var v struct {
				Secrets []struct{ Name, Digest string }
			}
			f.send("GET", "/v1/apps/shop/secrets?version=1", "", &v)
			if len(v.Secrets) != 2 || v.Secrets[0].Digest == "" {
				f.Errorf("the secrets are %+v", v)
			}
		}, func(*flyctl) {}},
		{"secrets unset B -a shop --stage", func(f *flyctl) {
			f.compact()
			f.send("POST", "/v1/apps/shop/secrets", `{"values":{"B":null}}`, nil)
		}, func(f *flyctl) {
			f.shop(func(a *app) {
				if len(a.Secrets.Values) != 1 {
					f.Errorf("the secrets are %v", a.Secrets.Values)
				}
			})
		}},
		{"ips allocate-v6 -a shop", func(f *flyctl) {
			f.compact()
			f.send("POST", "/v1/apps/shop/ip_assignments", `{"type":"v6","region":"","org_slug":"","network":"","service_name":""}`, &struct{ IP *string }{})
		}, func(f *flyctl) { f.addresses("v6") }},
		{"ips allocate-v4 --shared -a shop", func(f *flyctl) {
			f.compact()
			f.send("POST", "/v1/apps/shop/ip_assignments", `{"type":"shared_v4","region":"","org_slug":"","network":"","service_name":""}`, &struct{ IP *string }{})
		}, func(f *flyctl) { f.addresses("v6", "shared_v4") }},
		{"ips list -a shop", func(f *flyctl) {
			f.compact()
			f.send("GET", "/v1/apps/shop/ip_assignments", "", &struct {
				IPs []struct {
					IP        string
					Shared    bool
					CreatedAt time.Time `json:"created_at"`
				}
			}{})
			// An older flyctl asks GraphQL.
			var v struct {
				App struct {
					IPAddresses struct {
						Nodes []struct {
							ID, Address, Type, Region string
							CreatedAt                 time.Time
						}
					}
					SharedIPAddress string
				}
			}
			f.graph(`query ($appName: String!) { app(name: $appName) { ipAddresses { nodes { id address type region createdAt
				network { name organization { slug } } serviceName } } sharedIpAddress } }`, &v, "appName", "shop")
			if len(v.App.IPAddresses.Nodes) != 1 || v.App.SharedIPAddress == "" {
				f.Errorf("the addresses are %+v", v.App)
			}
		}, func(*flyctl) {}},
		{"certs add www.example.com -a shop", func(f *flyctl) {
			f.compact()
			f.send("POST", "/v1/apps/shop/certificates/acme", `{"hostname":"www.example.com"}`, &struct{ Configured bool }{})
		}, func(f *flyctl) { f.certificates("www.example.com") }},
		{"certs list -a shop", func(f *flyctl) {
			f.compact()
			f.send("GET", "/v1/apps/shop/certificates", "", &struct {
				Certificates []struct{ Hostname, Status string }
			}{})
			f.graph(`query($appName: String!) { appcertscompact:app(name: $appName) { certificates { nodes { createdAt hostname clientStatus } } } }`, nil, "appName", "shop")
		}, func(*flyctl) {}},
		{"certs check www.example.com -a shop", func(f *flyctl) {
			f.compact()
			f.send("POST", "/v1/apps/shop/certificates/www.example.com/check", "", nil)
			f.graph(`mutation($input: CheckCertificateInput!) { checkCertificate(input: $input) { certificate { acmeDnsConfigured acmeAlpnConfigured configured
				certificateAuthority createdAt dnsProvider dnsValidationInstructions dnsValidationHostname dnsValidationTarget hostname id source clientStatus isApex isWildcard
				issued { nodes { type expiresAt } } validationErrors { errorCode message remediation timestamp } }
				check { aRecords aaaaRecords cnameRecords soa dnsProvider dnsVerificationRecord resolvedAddresses } } }`, nil,
				"input", map[string]string{"appId": "shop", "hostname": "www.example.com"})
		}, func(*flyctl) {}},
		{"certs remove www.example.com -a shop --yes", func(f *flyctl) {
			f.compact()
			f.send("DELETE", "/v1/apps/shop/certificates/www.example.com", "", nil)
		}, func(f *flyctl) { f.certificates() }},
	}
}

// addresses wants the app to have addresses of these types.
func (f *flyctl) addresses(types ...string) {
	f.Helper()
	f.shop(func(a *app) {
		var got []string
		for _, one := range a.IPs {
			got = append(got, one.Type)
		}
		if !slices.Equal(got, types) {
			f.Errorf("the addresses are %v, want %v", got, types)
		}
	})
}

func (f *flyctl) certificates(hosts ...string) {
	f.Helper()
	f.shop(func(a *app) {
		if len(a.Certificates) != len(hosts) || len(hosts) > 0 && a.Certificates[hosts[0]] == nil {
			f.Errorf("the certificates are %v, want %v", a.Certificates, hosts)
		}
	})
}

func machineCommands() []command {
	return []command{
		{"volumes create data -a shop -r iad -s 1 --yes", func(f *flyctl) {
			f.compact()
			f.send("GET", "/v1/platform/regions", "", &struct{ Regions []struct{ Code string } }{})
			f.graph(`query { platform { requestRegion regions { name code latitude longitude gatewayAvailable requiresPaidPlan } } }`, &struct {
				Platform struct {
					Regions []struct{ Latitude, Longitude float32 }
				}
			}{})
			f.send("GET", "/v1/apps/shop/volumes", "", &[]struct{ ID string }{})
			f.send("POST", "/v1/apps/shop/volumes", `{"name":"data","region":"iad","size_gb":1,"encrypted":true,"require_unique_zone":true,"snapshot_retention":5}`, &struct{ ID string }{})
		}, func(f *flyctl) {
			f.shop(func(a *app) {
				if v := a.Volumes[f.volume]; v == nil || v.Name != "data" || v.SizeGB != 1 || v.Region != "iad" {
					f.Errorf("the volume is %+v", v)
				}
			})
		}},
		{"volumes extend {volume} -a shop -s 2 --yes", func(f *flyctl) {
			var v struct {
				Volume struct {
					App   struct{ Name string }
					State string
				}
			}
			f.graph(`query($id: ID!) { volume: node(id: $id) { ... on Volume { app { name } state } } }`, &v, "id", f.volume)
			if v.Volume.App.Name != "shop" {
				f.Errorf("the volume is of %+v", v)
			}
			f.compact()
			f.e.Advance(time.Minute)
			f.send("PUT", "/v1/apps/shop/volumes/"+f.volume+"/extend", `{"size_gb":2}`, nil)
		}, func(f *flyctl) {
			f.eventually("the volume has 2 GB", func(a *app) bool { return a.Volumes[f.volume].SizeGB == 2 })
		}},
		{"volumes list -a shop", func(f *flyctl) {
			f.send("GET", "/v1/apps/shop/volumes", "", &[]struct {
				ID     string
				SizeGB int `json:"size_gb"`
			}{})
		}, func(*flyctl) {}},
		{"machine run nginx:1.27 --name one -a shop -r iad", func(f *flyctl) {
			f.compact()
			f.resolve("nginx:1.27")
			var m ctlMachine
			f.send("POST", "/v1/apps/shop/machines", `{"config":{"env":{},"init":{},"guest":{"cpu_kind":"shared","cpus":1,"memory_mb":256},"image":"nginx:1.27","restart":{}},"name":"one","region":"iad"}`, &m)
			f.wait(m.ID, m.InstanceID, "started")
		}, func(f *flyctl) { f.machineIs(started) }},
		{"machine list -a shop", func(f *flyctl) {
			f.compact()
			var all []ctlMachine
			f.send("GET", "/v1/apps/shop/machines", "", &all)
			if len(all) != 1 || all[0].Name != "one" {
				f.Errorf("the machines are %+v", all)
			}
		}, func(*flyctl) {}},
		{"machine stop {machine} -a shop", func(f *flyctl) {
			f.graph(`query ($machineId: String!) { gqlmachine:machine(machineId: $machineId) { id name app { name organization { id slug } } } }`, nil, "machineId", f.machine)
			f.compact()
			var lease struct {
				Status string
				Data   struct{ Nonce string }
			}
			f.send("GET", "/v1/apps/shop/machines/"+f.machine, "", &ctlMachine{})
			f.send("POST", "/v1/apps/shop/machines/"+f.machine+"/stop", `{"id":"`+f.machine+`"}`, nil)
			f.wait(f.machine, f.instance(), "stopped")
			// Commands that change more than a state hold a lease meanwhile.
			f.send("POST", "/v1/apps/shop/machines/"+f.machine+"/lease?ttl=120", "", &lease)
			if lease.Status != "success" || lease.Data.Nonce == "" {
				f.Errorf("the lease is %+v", lease)
			}
			f.e.Advance(2 * time.Minute)
		}, func(f *flyctl) { f.machineIs(stopped) }},
		{"machine start {machine} -a shop", func(f *flyctl) {
			f.e.Advance(10 * time.Second)
			f.send("POST", "/v1/apps/shop/machines/"+f.machine+"/start", "", nil)
			f.wait(f.machine, f.instance(), "started")
		}, func(f *flyctl) { f.machineIs(started) }},
		{"machine kill {machine} -a shop", func(f *flyctl) {
			f.send("GET", "/v1/apps/shop/machines/"+f.machine, "", &ctlMachine{})
			f.send("POST", "/v1/apps/shop/machines/"+f.machine+"/signal", `{"signal":9}`, nil)
		}, func(f *flyctl) {
			f.eventually("it was killed", func(a *app) bool { return a.Machines[f.machine].Code == 137 })
		}},
		{"machine destroy {machine} -a shop --force", func(f *flyctl) {
			f.send("DELETE", "/v1/apps/shop/machines/"+f.machine+"?kill=true", "", nil)
		}, func(f *flyctl) {
			f.eventually("no machine is left", func(a *app) bool {
				for _, m := range a.Machines {
					if m.State != destroyed {
						return false
					}
				}
				return true
			})
		}},
		{"volumes destroy {volume} --yes", func(f *flyctl) {
			f.send("DELETE", "/v1/apps/shop/volumes/"+f.volume, "", nil)
		}, func(f *flyctl) {
			f.eventually("the volume goes", func(a *app) bool {
				v := a.Volumes[f.volume]
				return v == nil || v.State != "created"
			})
		}},
	}
}

func (f *flyctl) instance() (id string) {
	f.shop(func(a *app) { id = a.Machines[f.machine].Instance })
	return id
}

func (f *flyctl) machineIs(state string) {
	f.Helper()
	f.eventually("the machine is "+state, func(a *app) bool { return a.Machines[f.machine].State == state })
}

// launch is how flyctl makes a machine of an app that it deploys.
func (f *flyctl) launch(release string) {
	f.Helper()
	body := `{"config":{"env":{"FLY_PROCESS_GROUP":"app","PRIMARY_REGION":"iad"},"init":{},"guest":{"cpu_kind":"shared","cpus":1,"memory_mb":1024},
		"metadata":{"fly_flyctl_version":"0.4.0","fly_platform_version":"v2","fly_process_group":"app","fly_release_id":"` + release + `","fly_release_version":"1"},
		"services":[{"protocol":"tcp","internal_port":8080,"autostop":"off","autostart":true,"min_machines_running":0,"ports":[{"port":80,"handlers":["http"],"force_https":true},
			{"port":443,"handlers":["http","tls"]}],"force_instance_key":null}],"image":"nginx:1.27","restart":{}},"region":"iad","skip_launch":false}`
	var m ctlMachine
	f.send("POST", "/v1/apps/shop/machines", body, &m)
	f.wait(m.ID, m.InstanceID, "started")
}

func deployCommands() []command {
	running := func(n int) func(*flyctl) {
		return func(f *flyctl) {
			f.eventually(fmt.Sprintf("%d machines run", n), func(a *app) bool {
				up := 0
				for _, m := range a.Machines {
					if m.State == started && m.Config.Metadata["fly_process_group"] == "app" {
						up++
					}
				}
				return up == n
			})
		}
	}
	return []command{
		{"deploy --image nginx:1.27 -a shop --ha=false --smoke-checks=false --detach --yes", func(f *flyctl) {
			f.compact()
			f.resolve("nginx:1.27")
			f.send("GET", "/v1/apps/shop/machines", "", &[]ctlMachine{})
			f.send("GET", "/v1/apps/shop/volumes", "", &[]struct{ ID string }{})
			f.send("GET", "/v1/apps/shop/secrets", "", nil)
			f.send("GET", "/v1/apps/shop/ip_assignments", "", nil)
			var v struct{ Release uiRelease }
			f.send("POST", "/api/v1/releases", `{"app_name":"shop","build_id":0,"definition":{"app":"shop","primary_region":"iad"},"image":"nginx:1.27","strategy":"ROLLING"}`, &v)
			one := "/api/v1/releases/" + v.Release.ID
			f.send("PATCH", one, `{"status":"running","metadata":null}`, nil)
			f.launch(v.Release.ID)
			f.graph(`query ($name: String!) { canPerformBluegreenDeployment(name: $name) }`, nil, "name", "shop")
			f.send("PATCH", one, `{"status":"complete","metadata":{"post_deployment_info":{"flyctl_version":"0.4.0","error":""}}}`, &uiRelease{})
		}, func(f *flyctl) {
			running(1)(f)
			f.shop(func(a *app) {
				if r := a.currentRelease(); r == nil || r.Status != "complete" || !strings.Contains(r.Image, "nginx:1.27") {
					f.Errorf("the release is %+v", r)
				}
			})
		}},
		{"releases -a shop", func(f *flyctl) {
			f.send("GET", "/api/v1/apps/shop/releases?limit=25", "", &struct{ Releases []uiRelease }{})
			f.graph(`query($appName: String!, $limit: Int!) { app(name: $appName) { releases: releasesUnprocessed(first: $limit) { nodes {
				id version description reason status imageRef stable user { id email name } createdAt } } } }`, nil, "appName", "shop", "limit", 25)
			f.graph(`query LatestImage ($appName: String!) { app(name: $appName) { currentReleaseUnprocessed { id version imageRef } } }`, nil, "appName", "shop")
		}, func(*flyctl) {}},
		{"scale count 2 -a shop --yes", func(f *flyctl) {
			f.compact()
			f.send("GET", "/api/v1/apps/shop/releases/current", "", &uiRelease{})
			f.send("GET", "/v1/apps/shop/machines", "", &[]ctlMachine{})
			f.send("GET", "/v1/apps/shop/volumes", "", nil)
			f.send("POST", "/v1/platform/placements", `{"compute":{"cpu_kind":"shared","cpus":1,"memory_mb":1024},"region":"iad","count":1,"org_slug":"acme","volume_name":"","volume_size_bytes":0,"weights":null}`,
				&struct{ Regions []struct{ Region string } }{})
			f.launch("1")
		}, running(2)},
		{"scale show -a shop", func(f *flyctl) {
			f.send("GET", "/v1/apps/shop/machines", "", &[]ctlMachine{})
		}, running(2)},
	}
}

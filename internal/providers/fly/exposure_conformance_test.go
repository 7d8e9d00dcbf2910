package fly_test

import (
	"testing"
	"time"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/internal/providers/fly"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/providers/fly/flytest"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/reconcile/providertest"
)

func TestIPsConformance(t *testing.T) {
	providertest.TestInBubble(t, func(t *testing.T) providertest.Harness {
		r := (&rig{flytest.New(t, flyemulator.Options{}), t}).withApp()
		release := func(t *testing.T) {
			list, err := r.Somebody.IPs(t.Context(), flytest.App)
			if err != nil {
				t.Fatal(err)
			}
			for _, ip := range list {
				if err := r.Somebody.ReleaseIP(t.Context(), flytest.App, ip.Address); err != nil {
					t.Fatal(err)
				}
			}
		}
		return r.Harness(providertest.Harness{
			Resource: r.ips("shared", true), Changed: r.ips("dedicated", true), Policy: acting,
			Start: func(*testing.T) reconcile.Provider { return fly.NewIPs(r.forged()) },
			Edit: func(t *testing.T) {
				release(t)
				if _, err := r.Somebody.AssignIP(t.Context(), flytest.App, api.AssignIP{Type: api.IPv6}); err != nil {
					t.Fatal(err)
				}
			},
			Delete: release,
		})
	})
}

func TestVolumesConformance(t *testing.T) {
	providertest.TestInBubble(t, func(t *testing.T) providertest.Harness {
		r := (&rig{flytest.New(t, flyemulator.Options{}), t}).withApp()
		remove := func(t *testing.T, most int) {
			list, err := r.Somebody.Volumes(t.Context(), flytest.App)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range list {
				if v.Deleted() || most == 0 {
					continue
				}
				most--
				if err := r.Somebody.DeleteVolume(t.Context(), flytest.App, v.ID); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(5 * time.Second) // it is shown for a moment
		}
		return r.Harness(providertest.Harness{
			Resource: r.volumes(1, 3), Changed: r.volumes(2, 4), Policy: acting, Data: true, Patience: 12 * time.Hour,
			Start: func(*testing.T) reconcile.Provider {
				return fly.NewVolumes(r.forged(func(o *fly.Options) { o.Tick = time.Hour })) // Settle takes long
			},
			Edit:   func(t *testing.T) { remove(t, 1) }, // nothing of a volume can be edited that forged could put back
			Delete: func(t *testing.T) { remove(t, -1) },
			Settle: func(*testing.T) { time.Sleep(25 * time.Hour) }, // until then a host counts as taken
		})
	})
}

func TestCertificatesConformance(t *testing.T) {
	providertest.TestInBubble(t, func(t *testing.T) providertest.Harness {
		r := (&rig{flytest.New(t, flyemulator.Options{}), t}).withApp()
		if _, err := r.Somebody.AssignIP(t.Context(), flytest.App, api.AssignIP{Type: api.IPv6}); err != nil {
			t.Fatal(err)
		}
		r.leads()
		return r.Harness(providertest.Harness{
			Resource: r.certificate("", ""), Changed: r.certificate("", ""), Fixed: true, Policy: acting,
			Start: func(*testing.T) reconcile.Provider { return fly.NewCertificates(r.forged(), vault{}.resolver()) },
			Edit: func(t *testing.T) {
				if err := r.Somebody.DeleteACMECertificate(t.Context(), flytest.App, host); err != nil {
					t.Fatal(err)
				}
			},
			Delete: func(t *testing.T) {
				if err := r.Somebody.DeleteCertificate(t.Context(), flytest.App, host); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

func TestOwnCertificatesConformance(t *testing.T) {
	providertest.TestInBubble(t, func(t *testing.T) providertest.Harness {
		r := (&rig{flytest.New(t, flyemulator.Options{}), t}).withApp()
		v := vault{}
		v.pair(t, "CHAIN", "KEY", time.Now().Add(90*24*time.Hour), host)
		v.pair(t, "CHAIN2", "KEY2", time.Now().Add(180*24*time.Hour), host)
		v.pair(t, "CHAIN3", "KEY3", time.Now().Add(30*24*time.Hour), host)
		return r.Harness(providertest.Harness{
			Resource: r.certificate("CHAIN", "KEY"), Changed: r.certificate("CHAIN2", "KEY2"), Policy: acting,
			Secrets: []string{v["KEY"], v["KEY2"], v["KEY"][40:80]},
			Start:   func(*testing.T) reconcile.Provider { return fly.NewCertificates(r.forged(), v.resolver()) },
			Edit: func(t *testing.T) {
				if err := r.Somebody.DeleteCustomCertificate(t.Context(), flytest.App, host); err != nil {
					t.Fatal(err)
				}
				if _, err := r.Somebody.UploadCertificate(t.Context(), flytest.App, host, value(v["CHAIN3"]), value(v["KEY3"])); err != nil {
					t.Fatal(err)
				}
			},
			Delete: func(t *testing.T) {
				if err := r.Somebody.DeleteCertificate(t.Context(), flytest.App, host); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}

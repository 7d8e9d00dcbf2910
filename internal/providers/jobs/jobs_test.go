package jobs

import (
	"strings"
	"testing"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
)

func TestContentAddress(t *testing.T) {
	t.Parallel()
	base := func() forge.JobSpec {
		return forge.JobSpec{
			Process:   forge.Process{Image: "shop@sha256:1", Args: []string{"alembic", "upgrade", "head"}, Env: map[string]string{"A": "1"}},
			Namespace: "shop", Name: "shop-migrate", SecretNames: []string{"shop-env"}, Timeout: time.Minute,
		}
	}
	for _, tt := range []struct {
		name          string
		change        func(*forge.JobSpec)
		code, attempt bool // whether it is another one
	}{
		{"nothing", func(*forge.JobSpec) {}, false, false},
		{"image", func(s *forge.JobSpec) { s.Image = "shop@sha256:2" }, true, true},
		{"arguments", func(s *forge.JobSpec) { s.Args = []string{"alembic", "upgrade head"} }, true, true},
		{"entrypoint", func(s *forge.JobSpec) { s.Entrypoint = []string{"alembic"}; s.Args = []string{"upgrade", "head"} }, true, true},
		{"variable", func(s *forge.JobSpec) { s.Env["A"] = "2" }, false, true},
		{"time limit", func(s *forge.JobSpec) { s.Timeout = time.Hour }, false, true},
		{"memory", func(s *forge.JobSpec) { s.Resources.MemoryLimit = "1Gi" }, false, true},
		{"file", func(s *forge.JobSpec) { s.Files = []forge.MountedFile{{Path: "/a", Config: "c", Key: "k"}} }, false, true},
		{"form", func(s *forge.JobSpec) { s.Pod = true }, false, true},
		{"labels", func(s *forge.JobSpec) { s.Labels = map[string]string{"a": "b"} }, false, false},
	} {
		a, b := base(), base()
		tt.change(&b)
		sums := map[string]string{"checksum/shop-env": "1"}
		if got := code(a) != code(b); got != tt.code {
			t.Errorf("%s: other code: %v", tt.name, got)
		}
		if got := attempt(a, sums, 0, "") != attempt(b, sums, 0, ""); got != tt.attempt {
			t.Errorf("%s: other attempt: %v", tt.name, got)
		}
	}
	if a := base(); attempt(a, map[string]string{"checksum/shop-env": "1"}, 0, "") == attempt(a, map[string]string{"checksum/shop-env": "2"}, 0, "") ||
		attempt(a, nil, 0, "") == attempt(a, nil, 1, "") || attempt(a, nil, 0, "") == attempt(a, nil, 0, "2026-08") {
		t.Error("a changed secret, a person who asks, or another table makes no other attempt")
	}
}

func TestChecksumsAreWaitedFor(t *testing.T) {
	t.Parallel()
	secrets := forge.ID{Environment: "prod", Kind: forge.KindSecrets, Name: "shop"}
	config := forge.ID{Environment: "prod", Kind: forge.KindConfig, Name: "shop"}
	spec := forge.JobSpec{SecretNames: []string{"shop-env"}, Files: []forge.MountedFile{{Secret: "others", Key: "ca.crt"}}}
	req := reconcile.Request{Resource: forge.Resource{Needs: []forge.ID{secrets, config}}}
	_, err := checksums(req, spec)
	if reconcile.KindOf(err) != reconcile.Waiting {
		t.Errorf("without inputs: %v", err)
	}
	req.Inputs = map[forge.ID]reconcile.Outputs{
		secrets: {"checksum/shop-env": {Value: "1"}, "checksum/unused": {Value: "2"}},
	}
	if _, err = checksums(req, spec); reconcile.KindOf(err) != reconcile.Waiting {
		t.Errorf("without the files: %v", err)
	}
	req.Inputs[config] = reconcile.Outputs{forge.OutputChecksum: {Value: "3"}}
	got, err := checksums(req, spec)
	if err != nil || len(got) != 2 || got["checksum/shop-env"] != "1" || got["config/shop"] != "3" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestJobName(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("a", 16)
	for base, want := range map[string]string{
		"shop-migrate":                            "shop-migrate-aaaaaaaaaa",
		strings.Repeat("x", 80):                   strings.Repeat("x", 52) + "-aaaaaaaaaa",
		strings.Repeat("x", 51) + "-" + "y123456": strings.Repeat("x", 51) + "-aaaaaaaaaa",
	} {
		if got := jobName(base, hash); got != want || len(got) > 63 {
			t.Errorf("%s becomes %s", base, got)
		}
	}
}

func TestBookForgetsTheOldest(t *testing.T) {
	t.Parallel()
	var b book
	for i := range mostDone + 5 {
		b = b.with(digest(i))
	}
	b = b.with(digest(50))
	if len(b.Done) != mostDone || b.has(digest(4)) || !b.has(digest(5)) || b.Done[mostDone-1] != digest(50) {
		t.Errorf("%d are remembered", len(b.Done))
	}
	raw, err := b.write()
	if err != nil || len(raw) > 4096 {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
}

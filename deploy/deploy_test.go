// Package deploy_test reads what stands beside it, and the other files people
// copy, the way those who will use them do: strictly.
package deploy_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"forged.dev/forged/schema"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type sidecar struct {
	namespace corev1.Namespace
	account   corev1.ServiceAccount
	role      rbacv1.ClusterRole
	binding   rbacv1.ClusterRoleBinding
	config    corev1.ConfigMap
	app       appsv1.Deployment
}

// loadSidecar decodes every document strictly: an unknown or a double field is
// an error.
func loadSidecar(t *testing.T) sidecar {
	t.Helper()
	var s sidecar
	kinds := map[string]any{
		"Namespace": &s.namespace, "ServiceAccount": &s.account, "ClusterRole": &s.role,
		"ClusterRoleBinding": &s.binding, "ConfigMap": &s.config, "Deployment": &s.app,
	}
	for doc := range bytes.SplitSeq(read(t, "kubernetes/sidecar.yaml"), []byte("\n---\n")) {
		var head struct {
			Kind string `json:"kind"`
		}
		if err := yaml.Unmarshal(doc, &head); err != nil {
			t.Fatal(err)
		}
		into := kinds[head.Kind]
		if into == nil {
			t.Fatalf("unexpected or second kind %q", head.Kind)
		}
		delete(kinds, head.Kind)
		if err := yaml.UnmarshalStrict(doc, into); err != nil {
			t.Fatalf("%s: %v", head.Kind, err)
		}
	}
	if len(kinds) > 0 {
		t.Fatalf("not there: %v", kinds)
	}
	return s
}

func TestSidecarConfig(t *testing.T) {
	s := loadSidecar(t)
	src, err := schema.ReadFrom("forge.cue", strings.NewReader(s.config.Data["forge.cue"]))
	if err != nil {
		t.Fatal(err)
	}
	f, _, err := schema.Load(context.Background(), src)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := clientcmd.Load([]byte(s.config.Data["kubeconfig"]))
	if err != nil {
		t.Fatal(err)
	}
	for _, env := range f.Environments {
		if kubeconfig.Contexts[env.Platform.Context] == nil {
			t.Errorf("environment %s: the kubeconfig has no context %q", env.Name, env.Platform.Context)
		}
	}
	if ns := s.app.Namespace; ns != s.config.Namespace || ns != s.account.Namespace || ns != s.namespace.Name || ns != s.binding.Subjects[0].Namespace {
		t.Errorf("namespaces differ")
	}
	if s.binding.RoleRef.Name != s.role.Name || s.binding.Subjects[0].Name != s.account.Name || s.app.Spec.Template.Spec.ServiceAccountName != s.account.Name {
		t.Errorf("role, binding and account do not belong together")
	}
}

// TestSidecarIsRestricted holds the pod to the restricted Pod Security
// Standard, which the namespace enforces.
func TestSidecarIsRestricted(t *testing.T) {
	s := loadSidecar(t)
	pod := s.app.Spec.Template.Spec
	if got := s.namespace.Labels["pod-security.kubernetes.io/enforce"]; got != "restricted" {
		t.Errorf("the namespace enforces %q", got)
	}
	if p := pod.SecurityContext; p == nil || p.RunAsNonRoot == nil || !*p.RunAsNonRoot || p.SeccompProfile == nil || p.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("pod security context %+v", p)
	}
	c := pod.Containers[0]
	sc := c.SecurityContext
	if sc == nil || sc.AllowPrivilegeEscalation == nil || *sc.AllowPrivilegeEscalation || sc.ReadOnlyRootFilesystem == nil || !*sc.ReadOnlyRootFilesystem ||
		sc.Capabilities == nil || !slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("container security context %+v", sc)
	}
	if c.LivenessProbe.HTTPGet.Path != "/healthz" || c.ReadinessProbe.HTTPGet.Path != "/readyz" {
		t.Error("probes")
	}
	if s.app.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType || *s.app.Spec.Replicas != 1 {
		t.Error("two forged could run at a time")
	}
}

// TestSidecarMayDoItsWork: every kind in the charts is in the role.
func TestSidecarMayDoItsWork(t *testing.T) {
	s := loadSidecar(t)
	allowed := map[string]bool{}
	for _, rule := range s.role.Rules {
		if slices.Contains(rule.Verbs, "patch") && slices.Contains(rule.Verbs, "watch") {
			for _, r := range rule.Resources {
				allowed[r] = true
			}
		}
		if slices.Contains(rule.Verbs, "*") || slices.Contains(rule.Resources, "*") || slices.Contains(rule.APIGroups, "*") {
			t.Errorf("the rule %v has a wildcard", rule)
		}
	}
	templates, err := filepath.Glob("../charts/*/templates/*")
	if err != nil || len(templates) == 0 {
		t.Fatal(len(templates), err)
	}
	kind := regexp.MustCompile(`(?m)^kind: (\w+)`)
	for _, path := range templates {
		for _, m := range kind.FindAllSubmatch(read(t, path), -1) {
			resource := strings.ToLower(string(m[1])) + "s"
			switch {
			case strings.HasSuffix(resource, "ys"):
				resource = strings.TrimSuffix(resource, "ys") + "ies"
			case strings.HasSuffix(resource, "ss"):
				resource = strings.TrimSuffix(resource, "s") + "es"
			}
			if !allowed[resource] {
				t.Errorf("%s has a %s, and the role does not allow %s", path, m[1], resource)
			}
		}
	}
}

func TestPreCommitHooks(t *testing.T) {
	var hooks []struct {
		ID, Name, Description, Language, Entry, Files string
		RequireSerial                                 bool `json:"require_serial"`
	}
	if err := yaml.UnmarshalStrict(read(t, "../.pre-commit-hooks.yaml"), &hooks); err != nil {
		t.Fatal(err)
	}
	for _, h := range hooks {
		if h.ID == "" || h.Entry != "forged validate" || !h.RequireSerial || (h.Language != "golang" && h.Language != "system") {
			t.Errorf("%+v", h)
		}
		files, err := regexp.Compile(h.Files)
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]bool{
			"forge.cue": true, "services/shop/forge.cue": true, "shop.forge.cue": true,
			"reforge.cue": false, "forge.cue.bak": false, "forge.yaml": false,
		} {
			if files.MatchString(path) != want {
				t.Errorf("%s: %s matches: %v", h.ID, path, !want)
			}
		}
	}
	if len(hooks) == 0 {
		t.Error("no hooks")
	}
}

func TestWorkflowAndLintConfigurationParse(t *testing.T) {
	for _, path := range []string{"../.github/workflows/ci.yml", "../.golangci.yml"} {
		var v map[string]any
		if err := yaml.UnmarshalStrict(read(t, path), &v); err != nil || len(v) == 0 {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestSystemdUnit reads the unit line by line: what forged promises to the
// service manager, and what it does not need.
func TestSystemdUnit(t *testing.T) {
	have := map[string]bool{}
	section := ""
	for line := range strings.Lines(string(read(t, "systemd/forged.service"))) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "["):
			section = line
		case !strings.Contains(line, "=") || section == "":
			t.Errorf("not a setting: %q", line)
		default:
			have[section+line] = true
		}
	}
	for _, want := range []string{
		"Type=notify", "ExecReload=/bin/kill -HUP $MAINPID", "WatchdogSec=60s", "Restart=on-failure",
		"DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes",
		"CapabilityBoundingSet=", "MemoryDenyWriteExecute=yes", "SystemCallFilter=@system-service",
	} {
		if !have["[Service]"+want] {
			t.Errorf("not there: %s", want)
		}
	}
}

// TestDockerfile reads what matters of it: the image holds nothing but forged
// and certificates, and does not run as root.
func TestDockerfile(t *testing.T) {
	_, final, found := strings.Cut(string(read(t, "../Dockerfile")), "\nFROM scratch\n")
	if !found || strings.Contains(final, "FROM ") {
		t.Fatal("the last stage does not begin with nothing")
	}
	for _, want := range []string{"USER 65532:65532\n", `ENTRYPOINT ["/forged"]`, "ca-certificates.crt"} {
		if !strings.Contains(final, want) {
			t.Errorf("not there: %s", want)
		}
	}
	version := regexp.MustCompile(`(?m)^go (\S+)$`).FindSubmatch(read(t, "../go.mod"))
	if from := "FROM golang:" + string(version[1]) + "-alpine AS build\n"; !bytes.Contains(read(t, "../Dockerfile"), []byte(from)) {
		t.Errorf("the build stage is not %q, as go.mod wants", from)
	}
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"forged.dev/forged/hack/child"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/sandboxtest"
	"forged.dev/forged/internal/secret"
)

const (
	cluster   = "soak"
	namespace = "soak-prod"
)

const forgeText = `forge: "v1"
app: {
	name: "soak"
	image: {repository: "registry.fly.io/soak", tag: "1.4.%d"}
	env: LOG_LEVEL: %q
	secrets: SESSION: generate: {}
}
environments: prod: {
	platform: {
		kind: "fks", org: "acme", cluster: "soak", region: "ord"
		create: true, acknowledgeClosedBeta: true
	}
	services: {
		postgres: {mode: "fly-managed", plan: "starter", create: true}
		redis: {mode: "upstash", create: true}
	}
	workers: mail: args: ["mail"]
	volumes: uploads: {mount: "/app/uploads", size: "1Gi"}
	policy: {mode: "apply", prune: "owned", maxDelete: 20}
}
`

const forges = 3

func forge(n int) string { return fmt.Sprintf(forgeText, n, []string{"INFO", "DEBUG", "WARN"}[n]) }

// write replaces forge.cue as an editor does.
func (s *soak) write(n int) error {
	at := filepath.Join(s.dir, "forge.cue")
	if err := os.WriteFile(at+".new", []byte(forge(n)), 0o600); err != nil {
		return err
	}
	return os.Rename(at+".new", at)
}

// found starts the sandbox and writes forge.cue.
func (s *soak) found(ctx context.Context) (*child.Child, error) {
	if err := s.write(0); err != nil {
		return nil, err
	}
	home := filepath.Join(s.dir, "sandbox")
	c, err := s.place.Start("sandbox", nil, "forged-sandbox", "up", "--dir", home, "--clusters", "0", "--fks", "1", "--fly-speed", "60", "--quiet", "--exit-with-parent")
	if err != nil {
		return nil, err
	}
	err = child.Until(ctx, c, time.Minute, "a sandbox", func() (bool, error) {
		_, err := os.Stat(filepath.Join(home, "ready"))
		return err == nil, nil
	})
	if err == nil {
		s.fly, err = sandboxtest.FlyAt(home)
	}
	if err == nil {
		s.people, err = api.New(api.Options{
			Endpoints: api.Endpoints{Machines: s.fly.URL, GraphQL: s.fly.URL, UI: s.fly.URL}, Token: secret.New([]byte(s.fly.Token)), UserAgent: "soak",
		})
	}
	if err != nil {
		c.Kill()
		return nil, err
	}
	return c, nil
}

// meet lets people into the cluster, with a token that outlives the soak.
func (s *soak) meet(ctx context.Context) error {
	addOn, err := s.people.AddOn(ctx, cluster, api.AddOnKubernetes)
	if err != nil {
		return err
	}
	cfg, err := clientcmd.RESTConfigFromKubeConfig(addOn.Kubeconfig.Reveal())
	if err != nil {
		return err
	}
	token, err := s.fly.ClusterToken(ctx, 10_000*time.Hour)
	if err != nil {
		return err
	}
	cfg.ExecProvider, cfg.BearerToken, cfg.QPS = nil, token, -1
	s.objects, err = dynamic.NewForConfig(cfg)
	return err
}

// kinds are those of objects that people change, and that are compared.
var kinds = []schema.GroupVersionResource{
	{Version: "v1", Resource: "configmaps"},
	{Version: "v1", Resource: "secrets"},
	{Version: "v1", Resource: "services"},
	{Group: "apps", Version: "v1", Resource: "deployments"},
	{Version: "v1", Resource: "persistentvolumeclaims"},
}

// list are the objects of one kind that are forged's.
func (s *soak) list(ctx context.Context, kind schema.GroupVersionResource) ([]unstructured.Unstructured, error) {
	all, err := s.objects.Resource(kind).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: "forged.dev/instance"})
	if err != nil {
		return nil, err
	}
	return all.Items, nil
}

// picture is all there is, of what people would call their own.
func (s *soak) picture(ctx context.Context) (string, error) {
	all := map[string]any{}
	for _, kind := range kinds {
		list, err := s.list(ctx, kind)
		if err != nil {
			return "", err
		}
		for _, o := range list {
			at := kind.Resource + " " + o.GetName()
			if kind.Resource == "secrets" {
				data, _, err := unstructured.NestedStringMap(o.Object, "data")
				if err != nil {
					return "", err
				}
				for key := range data { // a user who is made again has another password
					all[at+" "+key] = "some"
				}
				all[at+" SESSION"] = data["SESSION"]
				continue
			}
			all[at] = bare(o)
		}
	}
	for _, kind := range []string{api.AddOnKubernetes, "upstash_redis"} {
		addOns, err := s.people.AddOns(ctx, s.fly.Organization, kind)
		if err != nil {
			return "", err
		}
		for _, a := range addOns {
			all[kind+" "+a.ID] = a.Name
		}
	}
	databases, err := s.people.PostgresClusters(ctx, s.fly.Organization)
	if err != nil {
		return "", err
	}
	for _, d := range databases {
		users, err := s.people.PostgresUsers(ctx, d.ID)
		if err != nil {
			return "", err
		}
		for _, u := range users {
			all["postgres "+d.ID+" user "+u.Name] = u.Role
		}
	}
	apps, err := s.people.Apps(ctx, s.fly.Organization, "")
	if err != nil {
		return "", err
	}
	for _, a := range apps {
		all["app "+a.Name] = ""
	}
	b, err := json.MarshalIndent(all, "", "  ")
	return string(b), err
}

// bare is what an object says, without what differs each time it is made.
func bare(o unstructured.Unstructured) any {
	spec, ok := o.Object["spec"].(map[string]any)
	if !ok {
		return o.Object["data"]
	}
	for _, field := range [][]string{{"clusterIP"}, {"clusterIPs"}, {"volumeName"}, {"template", "metadata", "annotations"}} {
		unstructured.RemoveNestedField(spec, field...)
	}
	ports, _ := spec["ports"].([]any)
	for _, port := range ports {
		if port, ok := port.(map[string]any); ok {
			delete(port, "nodePort")
		}
	}
	return spec
}

// silent looks for secrets in all that was logged.
func (s *soak) silent(ctx context.Context) error {
	var secrets []string
	databases, err := s.people.PostgresClusters(ctx, s.fly.Organization)
	if err != nil {
		return err
	}
	for _, d := range databases {
		for _, user := range []string{"appuser", "fly-user"} {
			if password, err := s.people.PostgresPassword(ctx, d.ID, user); err == nil {
				secrets = append(secrets, string(password.Reveal()))
			}
		}
	}
	caches, err := s.people.AddOns(ctx, s.fly.Organization, "upstash_redis")
	if err != nil {
		return err
	}
	for _, c := range caches {
		secrets = append(secrets, string(c.Password.Reveal()))
	}
	logs, err := filepath.Glob(filepath.Join(s.dir, "forged-*.log"))
	if err != nil {
		return err
	}
	if len(logs) < 2 || len(secrets) < 2 {
		return fmt.Errorf("%d logs, %d secrets: is anything looked at?", len(logs), len(secrets))
	}
	for _, name := range logs {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, word := range append(secrets, "fm2_lJPE") {
			if len(word) < 8 || strings.Contains(string(b), word) {
				return fmt.Errorf("a secret of %d letters is in %s", len(word), name)
			}
		}
	}
	return nil
}

package main

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// end is what there is at the end, with the test's name taken out, and the data
// of the app's secrets.
func (l *fksLine) end() (all string, secrets map[string]string) {
	l.t.Helper()
	found, err := l.made(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	inside, secrets := l.inside()
	found = append(found, inside...)
	slices.Sort(found)
	return strings.ReplaceAll(strings.Join(found, "\n"), l.name, "NAME"), secrets
}

// inside are the objects in the cluster.
func (l *fksLine) inside() (all []string, values map[string]string) {
	l.t.Helper()
	client := l.Open(l.t, l.name).Client
	namespace := l.name + "-prod"
	ctx, o := l.t.Context(), metav1.ListOptions{}
	must := func(err error) {
		l.t.Helper()
		if err != nil {
			l.t.Fatal(err)
		}
	}
	values = map[string]string{}
	secrets, err := client.CoreV1().Secrets(namespace).List(ctx, o)
	must(err)
	deployed := 0
	for _, s := range secrets.Items {
		if !strings.HasPrefix(s.Name, "sh.helm.release.") {
			all = append(all, "Secret "+s.Name)
			for key, value := range s.Data {
				values[s.Name+" "+key] = string(value)
			}
		} else if s.Labels["status"] == "deployed" {
			deployed++
		} else if strings.HasPrefix(s.Labels["status"], "pending") {
			l.t.Errorf("%s is %s", s.Name, s.Labels["status"])
		}
	}
	if deployed != 1 {
		l.t.Errorf("%d revisions are deployed", deployed)
	}
	configs, err := client.CoreV1().ConfigMaps(namespace).List(ctx, o)
	must(err)
	for _, c := range configs.Items {
		all = append(all, "ConfigMap "+c.Name)
		if packed := c.BinaryData["inventory.json.gz"]; packed != nil {
			for id, pending := range pendingRecords(l.t, packed) {
				if pending {
					l.t.Errorf("inventory: %s is pending", id)
				}
			}
		}
	}
	services, err := client.CoreV1().Services(namespace).List(ctx, o)
	must(err)
	for _, s := range services.Items {
		all = append(all, "Service "+s.Name)
	}
	claims, err := client.CoreV1().PersistentVolumeClaims(namespace).List(ctx, o)
	must(err)
	for _, c := range claims.Items {
		all = append(all, "PersistentVolumeClaim "+c.Name)
	}
	deployments, err := client.AppsV1().Deployments(namespace).List(ctx, o)
	must(err)
	for _, d := range deployments.Items {
		all = append(all, fmt.Sprintf("Deployment %s, %d of %d, %s", d.Name, d.Status.Replicas, *d.Spec.Replicas, d.Spec.Template.Spec.Containers[0].Image))
	}
	pods, err := client.CoreV1().Pods(namespace).List(ctx, o)
	must(err)
	for _, p := range pods.Items {
		if len(p.OwnerReferences) == 0 {
			all = append(all, "Pod "+strings.TrimRight(p.Name, "0123456789abcdef")+" "+string(p.Status.Phase))
		}
	}
	return all, values
}

// once proves that nothing was made twice, and no migration begun twice.
func (l *fksLine) once() {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var migrations []string
	for path, n := range l.created {
		if n != 1 {
			l.t.Errorf("%s was created %d times", path, n)
		}
		if strings.Contains(path, "/pods/") {
			migrations = append(migrations, path)
		}
	}
	if slices.Sort(migrations); len(migrations) != 2 {
		l.t.Errorf("migrations: %q", migrations)
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

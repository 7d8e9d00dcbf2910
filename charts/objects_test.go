package charts_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// workload is a Deployment, a StatefulSet or a CronJob, which has neither a
// selector nor replicas.
type workload struct {
	name     string
	selector *metav1.LabelSelector
	template corev1.PodTemplateSpec
	replicas *int32
	claims   []string // templates of claims
}

func workloadsOf(objects []runtime.Object) []workload {
	var all []workload
	for _, object := range objects {
		switch o := object.(type) {
		case *appsv1.Deployment:
			all = append(all, workload{o.Name, o.Spec.Selector, o.Spec.Template, o.Spec.Replicas, nil})
		case *appsv1.StatefulSet:
			w := workload{o.Name, o.Spec.Selector, o.Spec.Template, o.Spec.Replicas, nil}
			for _, claim := range o.Spec.VolumeClaimTemplates {
				w.claims = append(w.claims, claim.Name)
			}
			all = append(all, w)
		case *batchv1.CronJob:
			all = append(all, workload{o.Name, nil, o.Spec.JobTemplate.Spec.Template, nil, nil})
		}
	}
	return all
}

func matches(t *testing.T, selector *metav1.LabelSelector, pod map[string]string) bool {
	t.Helper()
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return s.Matches(labels.Set(pod))
}

// TestObjects holds what every object of every chart promises.
func TestObjects(t *testing.T) {
	for _, r := range renderings(t) {
		t.Run(r.name, func(t *testing.T) {
			rendered := r.render(t)
			if strings.Contains(rendered, "helm.sh/") {
				t.Error("mentions helm.sh: hooks and Helm's own marks have no place in our charts")
			}
			seen := map[string]bool{}
			for _, object := range decode(t, rendered) {
				accessor, err := meta.Accessor(object)
				if err != nil {
					t.Fatal(err)
				}
				id := fmt.Sprintf("%T %s", object, accessor.GetName())
				if seen[id] {
					t.Errorf("%s is there twice", id)
				}
				seen[id] = true
				if accessor.GetNamespace() != r.namespace {
					t.Errorf("%s is in namespace %q, not in the release's", id, accessor.GetNamespace())
				}
				if problems := validation.IsDNS1123Subdomain(accessor.GetName()); len(problems) > 0 {
					t.Errorf("%s: %v", id, problems)
				}
				checkLabels(t, id, r, accessor.GetLabels())
			}
			for _, w := range workloadsOf(decode(t, rendered)) {
				checkLabels(t, "pods of "+w.name, r, w.template.Labels)
				if w.selector == nil {
					continue
				}
				if !matches(t, w.selector, w.template.Labels) {
					t.Errorf("%s does not select its own pods", w.name)
				}
				for _, key := range []string{"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"} {
					if w.selector.MatchLabels[key] == "" {
						t.Errorf("%s does not select on %s", w.name, key)
					}
				}
			}
			noNulls(t, rendered)
		})
	}
}

func checkLabels(t *testing.T, id string, r rendering, got map[string]string) {
	t.Helper()
	want := map[string]string{
		"app.kubernetes.io/name":       r.chart,
		"app.kubernetes.io/instance":   r.release,
		"app.kubernetes.io/managed-by": "Helm",
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s: label %s is %q, want %q", id, key, got[key], value)
		}
	}
	for _, key := range []string{"app.kubernetes.io/component", "app.kubernetes.io/part-of", "forged.dev/environment"} {
		if got[key] == "" {
			t.Errorf("%s: no label %s", id, key)
		}
	}
	for key, value := range got {
		if problems := append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...); len(problems) > 0 {
			t.Errorf("%s: label %s=%s: %v", id, key, value, problems)
		}
	}
}

// noNulls: server-side apply would take a null for a field we own.
func noNulls(t *testing.T, rendered string) {
	t.Helper()
	var walk func(at string, value any)
	walk = func(at string, value any) {
		switch value := value.(type) {
		case nil:
			t.Errorf("%s is null", at)
		case map[string]any:
			for key, inner := range value {
				walk(at+"."+key, inner)
			}
		case []any:
			for i, inner := range value {
				walk(fmt.Sprintf("%s[%d]", at, i), inner)
			}
		}
	}
	for _, document := range strings.Split(rendered, "---\n") {
		if strings.TrimSpace(document) == "" {
			continue
		}
		object := map[string]any{}
		if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		walk(fmt.Sprint(object["kind"]), object)
	}
}

// TestPods: the restricted pod security standard and our own rules.
func TestPods(t *testing.T) {
	for _, r := range renderings(t) {
		t.Run(r.name, func(t *testing.T) {
			workloads := workloadsOf(decode(t, r.render(t)))
			if len(workloads) == 0 {
				t.Fatal("no pods")
			}
			for _, w := range workloads {
				for _, problem := range podProblems(w.template.Spec, w.claims...) {
					t.Errorf("%s: %s", w.name, problem)
				}
				for name, secret := range w.template.Annotations {
					if problems := validation.IsQualifiedName(name); len(problems) > 0 || secret == "" {
						t.Errorf("%s: annotation %s=%q: %v", w.name, name, secret, problems)
					}
				}
			}
		})
	}
}

func podProblems(pod corev1.PodSpec, claims ...string) []string {
	var problems []string
	require := func(ok bool, text string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Sprintf(text, args...))
		}
	}
	require(!pod.HostNetwork && !pod.HostPID && !pod.HostIPC, "uses the host's namespaces")
	require(len(pod.InitContainers) == 0, "has init containers")
	require(pod.AutomountServiceAccountToken != nil && !*pod.AutomountServiceAccountToken, "mounts a service account token")
	require(pod.EnableServiceLinks != nil && !*pod.EnableServiceLinks, "has service links")
	require(pod.TerminationGracePeriodSeconds != nil, "leaves the grace period to chance")
	security := pod.SecurityContext
	if security == nil {
		return append(problems, "no security context")
	}
	require(security.RunAsNonRoot != nil && *security.RunAsNonRoot, "may run as root")
	require(security.RunAsUser != nil && *security.RunAsUser > 0, "the user is no number above 0")
	require(security.SeccompProfile != nil && security.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault, "no seccomp profile")
	require(len(security.Sysctls) == 0, "sets sysctls")
	volumes := map[string]bool{}
	for _, claim := range claims {
		volumes[claim] = true
	}
	for _, volume := range pod.Volumes {
		volumes[volume.Name] = true
		var mode *int32
		switch {
		case volume.EmptyDir != nil || volume.PersistentVolumeClaim != nil || volume.ConfigMap != nil:
		case volume.Secret != nil:
			mode = volume.Secret.DefaultMode
			require(mode != nil, "volume %s: everybody may read the Secret", volume.Name)
		case volume.Projected != nil:
			mode = volume.Projected.DefaultMode
			require(mode != nil, "volume %s: everybody may read its files", volume.Name)
		default:
			require(false, "volume %s is none of the kinds we use", volume.Name)
		}
		require(mode == nil || *mode&0o007 == 0, "volume %s: everybody may read its files", volume.Name)
	}
	for _, container := range pod.Containers {
		c := container.SecurityContext
		if c == nil {
			problems = append(problems, container.Name+": no security context")
			continue
		}
		require(c.AllowPrivilegeEscalation != nil && !*c.AllowPrivilegeEscalation, "%s: may gain privileges", container.Name)
		require(c.Capabilities != nil && slices.Equal(c.Capabilities.Drop, []corev1.Capability{"ALL"}) && len(c.Capabilities.Add) == 0, "%s: keeps capabilities", container.Name)
		require(c.ReadOnlyRootFilesystem != nil, "%s: leaves the root file system to chance", container.Name)
		require(c.Privileged == nil && c.RunAsUser == nil && c.RunAsNonRoot == nil && c.ProcMount == nil, "%s: overrides the pod", container.Name)
		require(!strings.HasSuffix(container.Image, ":latest") && strings.ContainsAny(container.Image[strings.LastIndex(container.Image, "/")+1:], ":@"), "%s: image %s is not pinned", container.Name, container.Image)
		require(!container.Resources.Requests.Cpu().IsZero() && !container.Resources.Requests.Memory().IsZero(), "%s: requests nothing", container.Name)
		names := map[string]bool{}
		for _, variable := range container.Env {
			require(!names[variable.Name], "%s: variable %s is there twice", container.Name, variable.Name)
			names[variable.Name] = true
		}
		for _, port := range container.Ports {
			require(port.Protocol == corev1.ProtocolTCP && port.HostPort == 0, "%s: port %s", container.Name, port.Name)
		}
		places := map[string]bool{}
		for _, mount := range container.VolumeMounts {
			require(!places[mount.MountPath], "%s: two things are mounted at %s", container.Name, mount.MountPath)
			places[mount.MountPath] = true
			require(volumes[mount.Name], "%s: mounts %s, which is not there", container.Name, mount.Name)
		}
	}
	return problems
}

// TestPodProblemsSees: a check that finds nothing in bad pods would be none.
func TestPodProblemsSees(t *testing.T) {
	root := int64(0)
	pod := corev1.PodSpec{
		HostNetwork:     true,
		InitContainers:  []corev1.Container{{}},
		SecurityContext: &corev1.PodSecurityContext{RunAsUser: &root},
		Volumes:         []corev1.Volume{{Name: "host"}},
		Containers: []corev1.Container{
			{Name: "a"},
			{Name: "b", Image: "registry:5000/x", SecurityContext: &corev1.SecurityContext{}, Env: []corev1.EnvVar{{Name: "A"}, {Name: "A"}}, Ports: []corev1.ContainerPort{{}}, VolumeMounts: []corev1.VolumeMount{{Name: "x"}}},
		},
	}
	if got := podProblems(pod); len(got) != 18 {
		t.Errorf("found %d problems:\n%s", len(got), strings.Join(got, "\n"))
	}
}

// TestGrace: a pod is not killed while it still finishes its work. A worker that
// drains for ten minutes would lose it with Kubernetes' thirty seconds.
func TestGrace(t *testing.T) {
	workers := 0
	for _, e := range environments(t) {
		grace := map[string]int64{}
		for _, w := range workloadsOf(e.objects(t)) {
			grace[w.name] = *w.template.Spec.TerminationGracePeriodSeconds
			for _, c := range w.template.Spec.Containers {
				if c.Lifecycle != nil && c.Lifecycle.PreStop.Sleep != nil && c.Lifecycle.PreStop.Sleep.Seconds >= grace[w.name] {
					t.Errorf("%s: %s has no time left after its preStop", e.name, w.name)
				}
			}
		}
		for _, worker := range e.env.Workers {
			workers++
			if got := grace[e.env.App.Name+"-worker-"+worker.Name]; float64(got) <= worker.Drain.Seconds() {
				t.Errorf("%s: worker %s drains for %s and is killed after %d s", e.name, worker.Name, worker.Drain, got)
			}
		}
	}
	if workers == 0 {
		t.Error("there is no worker")
	}
}

// TestNoChartOwnsData: what a release has made goes when the release goes, or
// when an upgrade no longer renders it. Claims are made by themselves, or by a
// StatefulSet that leaves them.
func TestNoChartOwnsData(t *testing.T) {
	sets := 0
	for _, r := range renderings(t) {
		for _, object := range decode(t, r.render(t)) {
			switch o := object.(type) {
			case *corev1.PersistentVolumeClaim, *corev1.PersistentVolume, *corev1.Secret, *corev1.Namespace:
				t.Errorf("%s renders a %T", r.name, o)
			case *appsv1.StatefulSet:
				sets++
				if policy := o.Spec.PersistentVolumeClaimRetentionPolicy; policy.WhenDeleted != appsv1.RetainPersistentVolumeClaimRetentionPolicyType || policy.WhenScaled != appsv1.RetainPersistentVolumeClaimRetentionPolicyType {
					t.Errorf("%s: %s deletes its claims: %+v", r.name, o.Name, policy)
				}
				for _, claim := range o.Spec.VolumeClaimTemplates {
					if claim.Labels["forged.dev/data"] == "" {
						t.Errorf("%s: nothing says that %s holds data", r.name, claim.Name)
					}
				}
			}
		}
	}
	if sets == 0 {
		t.Error("there is no StatefulSet")
	}
}

// TestScaling: who owns the number of replicas, and what protects them.
func TestScaling(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range renderings(t) {
		objects := decode(t, r.render(t))
		autoscalers, budgets := map[string]*autoscalingv2.HorizontalPodAutoscaler{}, map[string]*policyv1.PodDisruptionBudget{}
		for _, object := range objects {
			switch o := object.(type) {
			case *autoscalingv2.HorizontalPodAutoscaler:
				autoscalers[o.Spec.ScaleTargetRef.Name] = o
			case *policyv1.PodDisruptionBudget:
				budgets[o.Name] = o
			}
		}
		for _, w := range workloadsOf(objects) {
			if w.selector == nil {
				continue
			}
			id := r.name + " " + w.name
			scaler, budget := autoscalers[w.name], budgets[w.name]
			delete(autoscalers, w.name)
			delete(budgets, w.name)
			if (scaler == nil) == (w.replicas == nil) {
				t.Errorf("%s: want replicas (%v) or an autoscaler (%v)", id, w.replicas, scaler)
				continue
			}
			var atMost int32
			if scaler != nil {
				seen["autoscaled"] = true
				atMost = scaler.Spec.MaxReplicas
				down, up := scaler.Spec.Behavior.ScaleDown, scaler.Spec.Behavior.ScaleUp
				if atMost <= *scaler.Spec.MinReplicas || len(scaler.Spec.Metrics) == 0 || down.StabilizationWindowSeconds == nil || len(down.Policies) == 0 || len(up.Policies) == 0 {
					t.Errorf("%s: %+v", id, scaler.Spec)
				}
			} else {
				atMost = *w.replicas
			}
			if (budget != nil) != (atMost >= 2) {
				t.Errorf("%s: up to %d replicas, budget %v", id, atMost, budget)
			}
			// Many are spread, and a constraint never keeps one from starting.
			spread := w.template.Spec.TopologySpreadConstraints
			if (len(spread) > 0) != (atMost >= 2) {
				t.Errorf("%s: up to %d replicas, spread %v", id, atMost, spread)
			}
			for _, constraint := range spread {
				seen["spread"] = true
				if constraint.WhenUnsatisfiable != corev1.ScheduleAnyway || !matches(t, constraint.LabelSelector, w.template.Labels) {
					t.Errorf("%s: %+v", id, constraint)
				}
			}
			if budget != nil {
				seen["budget"] = true
				if !matches(t, budget.Spec.Selector, w.template.Labels) || budget.Spec.MaxUnavailable.IntValue() != 1 || budget.Spec.MinAvailable != nil {
					t.Errorf("%s: %+v", id, budget.Spec)
				}
			}
		}
		if len(autoscalers)+len(budgets) > 0 {
			t.Errorf("%s: of nothing: %v %v", r.name, autoscalers, budgets)
		}
	}
	for _, kind := range []string{"autoscaled", "budget", "spread"} {
		if !seen[kind] {
			t.Errorf("no rendering is %s: this test shows nothing", kind)
		}
	}
}

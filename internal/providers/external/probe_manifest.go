package external

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/providers/objects"
)

const (
	// ProbeCommand is what the image of forged is told to do in a pod.
	ProbeCommand = "probe"

	// Labels of the pods, by which answers are found: whose, and to which
	// question.
	labelProbe = "forged.dev/probe"
	labelAsks  = "forged.dev/asks"

	probeEvery   = 10 * time.Minute // as the schedule below says
	probeLimit   = 2 * time.Minute  // for one pod to begin and to end
	probeSecrets = "/run/forged"
	probeUser    = 65532

	probeContainer = "probe"
)

// probeArguments are the command line in the pod. None is a secret.
func probeArguments(spec forge.ProbeSpec) []any {
	args := []any{ProbeCommand, spec.Service}
	add := func(flag, value string) {
		if value != "" {
			args = append(args, "--"+flag+"="+value)
		}
	}
	if spec.Secret != "" {
		add("secrets", probeSecrets)
	}
	add("ssl-mode", spec.SSLMode)
	add("address", spec.Address)
	add("namespace", spec.TemporalNamespace)
	if spec.TLS {
		args = append(args, "--tls")
	}
	return args
}

// asks names a question by all that it depends on.
func asks(spec forge.ProbeSpec, image, checksum string) string {
	raw, err := json.Marshal([]any{spec, image, checksum})
	if err != nil {
		panic(err) // texts, and maps of them
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// probeObjects are what asks: a Job at once, and one every ten minutes. The
// cluster makes the later ones, and takes those away that are over: forged
// writes nothing while nothing changes.
func probeObjects(spec forge.ProbeSpec, image, checksum string) ([]objects.Object, string, error) {
	question := asks(spec, image, checksum)
	first := probeObject(spec, "Job", shortened(spec.Name, 63-1-len(question))+"-"+question)
	first.Object["spec"] = jobSpec(spec, image, question)

	again := probeObject(spec, "CronJob", shortened(spec.Name, 52))
	again.Object["spec"] = map[string]any{
		// Not all in the same minute.
		"schedule":          fmt.Sprintf("%d-59/10 * * * *", sha256.Sum256([]byte(spec.Namespace + "/" + spec.Name))[0]%10),
		"concurrencyPolicy": "Forbid", "startingDeadlineSeconds": int64(probeLimit / time.Second),
		"successfulJobsHistoryLimit": int64(1), "failedJobsHistoryLimit": int64(1),
		"jobTemplate": map[string]any{
			"metadata": map[string]any{"labels": probeLabels(spec, question)},
			"spec":     jobSpec(spec, image, question),
		},
	}
	all := make([]objects.Object, 0, 2)
	for _, obj := range []*unstructured.Unstructured{first, again} {
		if _, err := kubernetes.Normalise(obj); err != nil {
			return nil, "", err
		}
		all = append(all, objects.Object{Manifest: obj})
	}
	return all, question, nil
}

func probeObject(spec forge.ProbeSpec, kind, name string) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{}}
	obj.SetGroupVersionKind(batch(kind))
	obj.SetNamespace(spec.Namespace)
	obj.SetName(name)
	obj.SetLabels(maps.Clone(spec.Labels))
	return obj
}

func batch(kind string) schema.GroupVersionKind { return batchv1.SchemeGroupVersion.WithKind(kind) }

// shortened is a name of at most so many bytes.
func shortened(name string, most int) string {
	if len(name) <= most {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	hash := hex.EncodeToString(sum[:4])
	return strings.TrimRight(name[:most-1-len(hash)], "-.") + "-" + hash
}

func probeLabels(spec forge.ProbeSpec, question string) map[string]any {
	labels := map[string]any{labelProbe: shortened(spec.Name, 63), labelAsks: question}
	for key, value := range spec.Labels {
		labels[key] = value
	}
	return labels
}

// jobSpec is one question. That the service is in trouble is an answer, and no
// failure of the Job: a Job that has failed is one that could not ask.
func jobSpec(spec forge.ProbeSpec, image, question string) map[string]any {
	c := map[string]any{
		"name": probeContainer, "image": image, "args": probeArguments(spec),
		"securityContext": map[string]any{
			"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
			"capabilities": map[string]any{"drop": []any{"ALL"}},
		},
		"resources": map[string]any{
			"requests": map[string]any{"cpu": "10m", "memory": "64Mi"},
			"limits":   map[string]any{"memory": "256Mi"},
		},
		"terminationMessagePolicy": "FallbackToLogsOnError",
	}
	pod := map[string]any{
		"restartPolicy": "Never", "automountServiceAccountToken": false, "enableServiceLinks": false,
		"securityContext": map[string]any{
			"runAsNonRoot": true, "runAsUser": int64(probeUser), "runAsGroup": int64(probeUser), "fsGroup": int64(probeUser),
			"seccompProfile": map[string]any{"type": "RuntimeDefault"},
		},
		"containers": []any{c},
	}
	if spec.Secret != "" {
		c["volumeMounts"] = []any{map[string]any{"name": "secrets", "mountPath": probeSecrets, "readOnly": true}}
		pod["volumes"] = []any{map[string]any{"name": "secrets", "secret": map[string]any{"secretName": spec.Secret, "defaultMode": int64(0o440)}}}
	}
	if spec.PullSecret != "" {
		pod["imagePullSecrets"] = []any{map[string]any{"name": spec.PullSecret}}
	}
	return map[string]any{
		"parallelism": int64(1), "completions": int64(1), "backoffLimit": int64(0),
		"activeDeadlineSeconds": int64(probeLimit / time.Second),
		"template":              map[string]any{"metadata": map[string]any{"labels": probeLabels(spec, question)}, "spec": pod},
	}
}

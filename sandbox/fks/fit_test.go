package fks

import (
	"crypto/tls"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Each field that Fly does not support goes, by its name; the rest stays.
func TestFit(t *testing.T) {
	for pod, want := range map[string]string{
		`{"containers":[{"name":"a","image":"x","command":["a"],"env":[{"name":"A","value":"b"}],"imagePullPolicy":"Always","terminationMessagePath":"/x"}]}`:                                                                ``,
		`{"containers":[{"name":"a"}],"initContainers":[{"name":"i"}]}`:                                                                                                                                                      `initContainers`,
		`{"containers":[{"name":"a"},{"name":"b"}]}`:                                                                                                                                                                         `containers[1]`,
		`{"containers":[{"name":"a"}],"nodeSelector":{"a":"b"},"affinity":{},"topologySpreadConstraints":[{"maxSkew":1}]}`:                                                                                                   `nodeSelector affinity topologySpreadConstraints`,
		`{"containers":[{"name":"a","workingDir":"/a","ports":[{"containerPort":1}],"lifecycle":{},"securityContext":{}}]}`:                                                                                                  `containers[0].workingDir containers[0].ports containers[0].lifecycle containers[0].securityContext`,
		`{"containers":[{"name":"a","livenessProbe":{},"readinessProbe":{},"startupProbe":{}}]}`:                                                                                                                             `containers[0].livenessProbe containers[0].readinessProbe containers[0].startupProbe`,
		`{"containers":[{"name":"a","stdin":true,"stdinOnce":true,"tty":true,"volumeDevices":[{"name":"d"}]}]}`:                                                                                                              `containers[0].volumeDevices containers[0].stdin containers[0].stdinOnce containers[0].tty`,
		`{"containers":[{"name":"a","env":[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"x"}}},{"name":"S","valueFrom":{"secretKeyRef":{"key":"k"}}},{"name":"B","valueFrom":{"resourceFieldRef":{"resource":"x"}}}]}]}`: `containers[0].env[A].valueFrom.fieldRef containers[0].env[B].valueFrom.resourceFieldRef`,
		`{"containers":[{"name":"a"}],"volumes":[{"name":"a","emptyDir":{}},{"name":"b","hostPath":{"path":"/"}},{"name":"c","nfs":{}},{"name":"d","downwardAPI":{}},{"name":"e","secret":{}}]}`:                             `volumes[0].emptyDir volumes[1].hostPath volumes[2].nfs volumes[3].downwardAPI`,
		`{"containers":[{"name":"a"}],"volumes":[{"name":"a","persistentVolumeClaim":{"claimName":"a"}},{"name":"b","ephemeral":{}}]}`:                                                                                       `volumes[1].(a second volume)`,
	} {
		var spec corev1.PodSpec
		if err := json.Unmarshal([]byte(pod), &spec); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(fit(&spec), " "); got != want {
			t.Errorf("%s\n got %s\nwant %s", pod, got, want)
		}
		if again := fit(&spec); len(again) > 0 {
			t.Errorf("%s: left %v", pod, again)
		}
	}
}

// A mount goes with its volume, or no pod could be made.
func TestMountsGoWithVolumes(t *testing.T) {
	spec := corev1.PodSpec{
		Volumes:    []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}, {Name: "config"}},
		Containers: []corev1.Container{{VolumeMounts: []corev1.VolumeMount{{Name: "config"}, {Name: "tmp"}}}},
	}
	fit(&spec)
	if mounts := spec.Containers[0].VolumeMounts; len(mounts) != 1 || mounts[0].Name != "config" || len(spec.Volumes) != 1 {
		t.Errorf("%+v", spec)
	}
}

func TestAdmit(t *testing.T) {
	const probe = `{"spec":{"template":{"spec":{"containers":[{"name":"a","readinessProbe":{}}]}}}}`
	for name, c := range map[string]struct {
		mode, kind, object, user string
		refused                  string // what it names; empty: it is not
		patched                  bool
	}{
		"pod, ignored":            {AdmissionIgnore, "Pod", `{"spec":{"containers":[{"name":"a","tty":true}]}}`, "", "", true},
		"good pod":                {AdmissionIgnore, "Pod", `{"spec":{"containers":[{"name":"a"}]}}`, "", "", false},
		"pod, refused":            {AdmissionReject, "Pod", `{"spec":{"containers":[{"name":"a","tty":true}]}}`, "", "spec.containers[0].tty", false},
		"pod of a controller":     {AdmissionReject, "Pod", `{"spec":{"containers":[{"name":"a","tty":true}]}}`, controllers, "tty", false},
		"deployment, ignored":     {AdmissionIgnore, "Deployment", probe, "", "", false},
		"deployment, refused":     {AdmissionReject, "Deployment", probe, "", "spec.template.spec.containers[0].readinessProbe", false},
		"replicas of an old one":  {AdmissionReject, "ReplicaSet", probe, controllers, "", false},
		"daemons, ignored":        {AdmissionIgnore, "DaemonSet", `{}`, "", "", false},
		"daemons, refused":        {AdmissionReject, "DaemonSet", `{}`, "", "kind DaemonSet", false},
		"cron job, refused":       {AdmissionReject, "CronJob", `{}`, "", "kind CronJob", false},
		"autoscaler, refused":     {AdmissionReject, "HorizontalPodAutoscaler", `{}`, "", "kind HorizontalPodAutoscaler", false},
		"policy, refused":         {AdmissionReject, "NetworkPolicy", `{}`, "", "kind NetworkPolicy", false},
		"claim":                   {AdmissionReject, "PersistentVolumeClaim", `{"spec":{"accessModes":["ReadWriteOncePod"],"resources":{"requests":{"storage":"500Gi"}}}}`, "", "", false},
		"claim of many, refused":  {AdmissionReject, "PersistentVolumeClaim", `{"spec":{"accessModes":["ReadWriteMany"]}}`, "", "ReadWriteMany", false},
		"claim template, refused": {AdmissionReject, "StatefulSet", `{"spec":{"volumeClaimTemplates":[{"spec":{"accessModes":["ReadWriteOnce"]}}]}}`, "", "volumeClaimTemplates[0]", false},
		"selector, refused":       {AdmissionReject, "PersistentVolumeClaim", `{"spec":{"accessModes":["ReadWriteOncePod"],"selector":{"matchLabels":{"disk":"fast"}}}}`, "", "label region", false},
		"service":                 {AdmissionReject, "Service", `{"spec":{"ports":[{"port":80}]}}`, "", "", false},
		"stream, refused":         {AdmissionReject, "Service", `{"spec":{"ports":[{"port":80,"protocol":"SCTP"}]}}`, "", "spec.ports[0].protocol SCTP", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := &admissionv1.AdmissionRequest{Kind: metav1.GroupVersionKind{Kind: c.kind}, Object: runtime.RawExtension{Raw: []byte(c.object)}}
			r.UserInfo.Username = c.user
			got := admit(c.mode, r)
			if got.Allowed != (c.refused == "") || (got.Patch != nil) != c.patched {
				t.Errorf("allowed %v, patch %s", got.Allowed, got.Patch)
			}
			if c.refused != "" && !strings.Contains(got.Result.Message, c.refused) {
				t.Errorf("message %q", got.Result.Message)
			}
		})
	}
}

func TestAnnotationsOfTheEdge(t *testing.T) {
	if got := list("tls, http,"); !slices.Equal(got, []string{"tls", "http"}) {
		t.Errorf("got %v", got)
	}
	for text, want := range map[string][2]uint16{
		"": {}, "TLSv1.2": {tls.VersionTLS12, tls.VersionTLS12}, "TLSv1.3,TLSv1.2": {tls.VersionTLS12, tls.VersionTLS13}, "SSLv3": {},
	} {
		if oldest, newest := versions(list(text)); [2]uint16{oldest, newest} != want {
			t.Errorf("%q: %x to %x", text, oldest, newest)
		}
	}
}

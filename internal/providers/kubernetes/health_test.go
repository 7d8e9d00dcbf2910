package kubernetes

import (
	"strings"
	"testing"

	"forged.dev/forged/internal/reconcile"
)

func TestHealthOf(t *testing.T) {
	const ready = "status: {observedGeneration: 2, replicas: 1, updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1, conditions: [{type: Available, status: 'True'}, {type: Progressing, status: 'True', reason: NewReplicaSetAvailable}]}"
	for _, tt := range []struct {
		name, object string
		status       reconcile.HealthStatus
		message      string
	}{
		{"deployment", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: shop, generation: 2}, spec: {replicas: 1}, " + ready + "}", reconcile.Ready, ""},
		{"deployment not seen by its controller", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: shop, generation: 3}, spec: {replicas: 1}, " + ready + "}", reconcile.Progressing, "generation is 3"},
		{"deployment without pods", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: shop, generation: 2}, spec: {replicas: 2}, " + ready + "}", reconcile.Progressing, "Replicas: 1/2"},
		{"deployment out of time", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, generation: 1}, spec: {progressDeadlineSeconds: 1}, status: {observedGeneration: 1, conditions: [{type: Progressing, status: 'False', reason: ProgressDeadlineExceeded}]}}", reconcile.Failed, "deadline"},
		{"being deleted", "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, deletionTimestamp: '2020-01-01T00:00:00Z'}}", reconcile.Progressing, "being deleted"},
		{"config map", "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}", reconcile.Ready, ""},
		{"service", "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: ClusterIP, clusterIP: 10.0.0.1}}", reconcile.Ready, ""},
		{"load balancer without address", "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: LoadBalancer, clusterIP: 10.0.0.1}}", reconcile.Progressing, "address"},
		{"load balancer", "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: LoadBalancer, clusterIP: 10.0.0.1}, status: {loadBalancer: {ingress: [{ip: 1.2.3.4}]}}}", reconcile.Ready, ""},
		{"ingress without address", "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i}}", reconcile.Progressing, "ingress controller"},
		{"ingress", "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i}, status: {loadBalancer: {ingress: [{hostname: x}]}}}", reconcile.Ready, ""},
		{"claim", "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: p}, status: {phase: Bound}}", reconcile.Ready, ""},
		{"claim that waits", "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: p}, status: {phase: Pending}}", reconcile.Progressing, "Bound"},
		{"job that failed", "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, status: {conditions: [{type: Failed, status: 'True'}]}}", reconcile.Failed, "Failed"},
		{"nonsense", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, status: {conditions: nonsense}}", reconcile.Unknown, "cannot restore slice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := HealthOf(parse(t, tt.object))
			if strings.Contains(h.Message, RefOf(parse(t, tt.object)).String()) {
				t.Errorf("the object is named, and whoever shows the message names it again: %s", h.Message)
			}
			if h.Status != tt.status || !strings.Contains(h.Message, tt.message) || (h.Status == reconcile.Ready) != (h.Message == "") {
				t.Errorf("got %+v, want %s with %q", h, tt.status, tt.message)
			}
		})
	}
}

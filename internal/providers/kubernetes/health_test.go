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
		{"deployment whose pods are refused", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, generation: 1}, spec: {replicas: 1}, status: {observedGeneration: 1, conditions: [{type: ReplicaFailure, status: 'True', reason: FailedCreate, message: exceeded quota}]}}", reconcile.Progressing, "exceeded quota"},
		{"job", "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, status: {startTime: '2020-01-01T00:00:00Z', active: 1}}", reconcile.Progressing, "runs"},
		{"job that is suspended", "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, spec: {suspend: true}}", reconcile.Progressing, "suspended"},
		{"job with failed attempts that is still tried", "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, status: {active: 1, failed: 3}}", reconcile.Progressing, "runs"},
		{"job that succeeded after failed attempts", "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, status: {failed: 3, succeeded: 1, conditions: [{type: Complete, status: 'True'}]}}", reconcile.Ready, ""},
		{"job that failed", "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, status: {conditions: [{type: Failed, status: 'True', reason: DeadlineExceeded, message: too long}]}}", reconcile.Failed, "DeadlineExceeded: too long"},
		{"job that is stopped", "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, status: {conditions: [{type: FailureTarget, status: 'True', reason: DeadlineExceeded}]}}", reconcile.Progressing, "is being stopped: DeadlineExceeded"},
		{"job that is to be run again", "{apiVersion: batch/v1, kind: Job, metadata: {name: j, annotations: {forged.dev/run-again: 'yes'}}, status: {conditions: [{type: Complete, status: 'True'}]}}", reconcile.Unknown, "another run"},
		{"autoscaler", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: h}, status: {conditions: [{type: AbleToScale, status: 'True'}, {type: ScalingActive, status: 'True'}, {type: ScalingLimited, status: 'False'}]}}", reconcile.Ready, ""},
		{"autoscaler without metrics", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: h}, status: {conditions: [{type: ScalingActive, status: 'False', reason: FailedGetResourceMetric, message: no metrics}]}}", reconcile.Ready, "no metrics"},
		{"autoscaler at its limit", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: h}, status: {conditions: [{type: ScalingActive, status: 'True'}, {type: ScalingLimited, status: 'True', reason: TooManyReplicas}]}}", reconcile.Ready, "maximum"},
		{"definition", "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: c}, status: {conditions: [{type: NamesAccepted, status: 'True'}, {type: Established, status: 'True'}]}}", reconcile.Ready, ""},
		{"definition that is not served yet", "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: c}}", reconcile.Progressing, ""},
		{"API service", "{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: a}, status: {conditions: [{type: Available, status: 'True'}]}}", reconcile.Ready, ""},
		{"API service without a server", "{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: a}, status: {conditions: [{type: Available, status: 'False', reason: MissingEndpoints}]}}", reconcile.Progressing, "MissingEndpoints"},
		{"certificate", "{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: c, generation: 1}, status: {conditions: [{type: Ready, status: 'True', observedGeneration: 1}]}}", reconcile.Ready, ""},
		{"certificate of before a change", "{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: c, generation: 2}, status: {conditions: [{type: Ready, status: 'True', observedGeneration: 1, message: up to date}]}}", reconcile.Progressing, "up to date"},
		{"certificate on its way", "{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: c}, status: {conditions: [{type: Ready, status: 'False'}, {type: Issuing, status: 'True', message: waiting for the order}]}}", reconcile.Progressing, "waiting for the order"},
		{"certificate that was refused", "{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: c}, status: {failedIssuanceAttempts: 2, conditions: [{type: Ready, status: 'False'}, {type: Issuing, status: 'False', reason: Failed, message: rate limited}]}}", reconcile.Failed, "rate limited"},
		{"gateway", "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g}, status: {conditions: [{type: Accepted, status: 'True'}, {type: Programmed, status: 'True'}]}}", reconcile.Ready, ""},
		{"gateway without a controller", "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g}, status: {conditions: [{type: Accepted, status: Unknown, reason: Pending}]}}", reconcile.Progressing, "controller"},
		{"route", "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r}, spec: {parentRefs: [{name: web}]}, status: {parents: [{parentRef: {name: web}, conditions: [{type: Accepted, status: 'True'}, {type: ResolvedRefs, status: 'True'}]}]}}", reconcile.Ready, ""},
		{"route that nobody takes", "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r}, spec: {parentRefs: [{name: web}]}}", reconcile.Progressing, "gateway"},
		{"route to nowhere", "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r}, spec: {parentRefs: [{name: web}]}, status: {parents: [{parentRef: {name: web}, conditions: [{type: Accepted, status: 'True'}, {type: ResolvedRefs, status: 'False', reason: BackendNotFound}]}]}}", reconcile.Progressing, "BackendNotFound"},
		{"custom resource", "{apiVersion: example.com/v1, kind: Widget, metadata: {name: w}, status: {conditions: [{type: Ready, status: 'True'}]}}", reconcile.Ready, ""},
		{"custom resource that is not ready", "{apiVersion: example.com/v1, kind: Widget, metadata: {name: w}, status: {conditions: [{type: Ready, status: 'False', message: no wheels}]}}", reconcile.Progressing, "no wheels"},
		{"custom resource with a status of its own form", "{apiVersion: example.com/v1, kind: Widget, metadata: {name: w}, status: {conditions: fine}}", reconcile.Ready, ""},
		{"nonsense", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, status: {conditions: nonsense}}", reconcile.Unknown, "cannot restore slice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := HealthOf(parse(t, tt.object))
			if strings.Contains(h.Message, RefOf(parse(t, tt.object)).String()) {
				t.Errorf("the object is named, and whoever shows the message names it again: %s", h.Message)
			}
			if h.Status != tt.status || !strings.Contains(h.Message, tt.message) || tt.message == "" && h.Status == reconcile.Ready && h.Message != "" {
				t.Errorf("got %+v, want %s with %q", h, tt.status, tt.message)
			}
		})
	}
}

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
		{"deployment not seen by its controller", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: shop, generation: 3}, spec: {replicas: 1}, " + ready + "}", reconcile.Progressing, "waits for its controller to take up the last change"},
		{"deployment without pods", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, namespace: shop, generation: 2}, spec: {replicas: 2}, " + ready + "}", reconcile.Progressing, "waits for its pods to be made: 1 of 2 are there"},
		{"deployment out of time", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, generation: 1}, spec: {progressDeadlineSeconds: 1}, status: {observedGeneration: 1, conditions: [{type: Progressing, status: 'False', reason: ProgressDeadlineExceeded}]}}", reconcile.Failed, "for 1 seconds, its progressDeadlineSeconds: 0 of 1 are"},
		{"being deleted", "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, deletionTimestamp: '2020-01-01T00:00:00Z'}}", reconcile.Progressing, "being deleted"},
		{"config map", "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}", reconcile.Ready, ""},
		{"service", "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: ClusterIP, clusterIP: 10.0.0.1}}", reconcile.Ready, ""},
		{"load balancer without address", "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: LoadBalancer, clusterIP: 10.0.0.1}}", reconcile.Progressing, "address"},
		{"load balancer", "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {type: LoadBalancer, clusterIP: 10.0.0.1}, status: {loadBalancer: {ingress: [{ip: 1.2.3.4}]}}}", reconcile.Ready, ""},
		{"ingress without address", "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i}}", reconcile.Progressing, "ingress controller"},
		{"ingress", "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i}, status: {loadBalancer: {ingress: [{hostname: x}]}}}", reconcile.Ready, ""},
		{"claim", "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: p}, status: {phase: Bound}}", reconcile.Ready, ""},
		{"claim that waits", "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: p}, status: {phase: Pending}}", reconcile.Progressing, "the cluster has none by default"},
		{"deployment whose pods are refused", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, generation: 1}, spec: {replicas: 1}, status: {observedGeneration: 1, conditions: [{type: ReplicaFailure, status: 'True', reason: FailedCreate, message: exceeded quota}]}}", reconcile.Progressing, "exceeded quota"},
		{"job", "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, status: {startTime: '2020-01-01T00:00:00Z', active: 1}}", reconcile.Progressing, "runs"},
		{"job that is suspended", "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, spec: {suspend: true}}", reconcile.Progressing, "suspended"},
		{"job with failed attempts that is still tried", "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, status: {active: 1, failed: 3}}", reconcile.Progressing, "runs"},
		{"job that succeeded after failed attempts", "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, status: {failed: 3, succeeded: 1, conditions: [{type: Complete, status: 'True'}]}}", reconcile.Ready, ""},
		{"job that failed", "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, status: {conditions: [{type: Failed, status: 'True', reason: DeadlineExceeded, message: too long}]}}", reconcile.Failed, "longer than its activeDeadlineSeconds"},
		{"job that is stopped", "{apiVersion: batch/v1, kind: Job, metadata: {name: j}, status: {conditions: [{type: FailureTarget, status: 'True', reason: DeadlineExceeded}]}}", reconcile.Progressing, "is being stopped: it has run for longer"},
		{"job that is to be run again", "{apiVersion: batch/v1, kind: Job, metadata: {name: j, annotations: {forged.dev/run-again: 'yes'}}, status: {conditions: [{type: Complete, status: 'True'}]}}", reconcile.Unknown, "another run"},
		{"pod of a job that runs", "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {forged.dev/job: m}}, status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}}", reconcile.Progressing, "runs"},
		{"pod of a job that waits for a node", "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {forged.dev/job: m}}, status: {phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: no room}]}}", reconcile.Progressing, "has not begun: no node takes it"},
		{"pod of a job that succeeded", "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {forged.dev/job: m}}, status: {phase: Succeeded}}", reconcile.Ready, ""},
		{"pod of a job that failed", "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {forged.dev/job: m}}, status: {phase: Failed, reason: DeadlineExceeded}}", reconcile.Failed, "longer than its activeDeadlineSeconds"},
		{"pod of a job whose node goes away", "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {forged.dev/job: m}}, status: {phase: Failed, conditions: [{type: DisruptionTarget, status: 'True'}]}}", reconcile.Unknown, "stopped by the cluster"},
		{"pod of a job that is to be run again", "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {forged.dev/job: m}, annotations: {forged.dev/run-again: 'yes'}}, status: {phase: Failed}}", reconcile.Unknown, "another run"},
		{"pod of a job that is stopped", "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {forged.dev/job: m}, deletionTimestamp: '2020-01-01T00:00:00Z'}, status: {phase: Succeeded}}", reconcile.Progressing, "being deleted"},
		{"pod that serves", "{apiVersion: v1, kind: Pod, metadata: {name: p}, status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}}", reconcile.Ready, ""},
		{"autoscaler", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: h}, status: {conditions: [{type: AbleToScale, status: 'True'}, {type: ScalingActive, status: 'True'}, {type: ScalingLimited, status: 'False'}]}}", reconcile.Ready, ""},
		{"autoscaler without metrics", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: h}, status: {conditions: [{type: ScalingActive, status: 'False', reason: FailedGetResourceMetric, message: no metrics}]}}", reconcile.Ready, "no metrics"},
		{"autoscaler at its limit", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: h}, status: {conditions: [{type: ScalingActive, status: 'True'}, {type: ScalingLimited, status: 'True', reason: TooManyReplicas}]}}", reconcile.Ready, "maximum"},
		{"definition", "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: c}, status: {conditions: [{type: NamesAccepted, status: 'True'}, {type: Established, status: 'True'}]}}", reconcile.Ready, ""},
		{"definition that is not served yet", "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: c}}", reconcile.Progressing, "waits for the API server to serve it"},
		{"API service", "{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: a}, status: {conditions: [{type: Available, status: 'True'}]}}", reconcile.Ready, ""},
		{"API service without a server", "{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: a}, status: {conditions: [{type: Available, status: 'False', reason: MissingEndpoints}]}}", reconcile.Progressing, "MissingEndpoints"},
		{"certificate", "{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: c, generation: 1}, status: {conditions: [{type: Ready, status: 'True', observedGeneration: 1}]}}", reconcile.Ready, ""},
		{"certificate of before a change", "{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: c, generation: 2}, status: {conditions: [{type: Ready, status: 'True', observedGeneration: 1, message: up to date}]}}", reconcile.Progressing, "take up the last change"},
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
		{"nonsense", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, status: {conditions: nonsense}}", reconcile.Unknown, "does not have the form"},
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

// What is told of an object that is not ready says what is waited for. None of
// the words of kstatus get through.
func TestWhatIsWaitedFor(t *testing.T) {
	const apps, core = "{apiVersion: apps/v1, metadata: {name: d, generation: 1}, kind: ", "{apiVersion: v1, metadata: {name: d}, kind: "
	for _, tt := range []struct{ object, message string }{
		{apps + "Deployment, spec: {replicas: 3}, status: {observedGeneration: 1, replicas: 3, updatedReplicas: 1, readyReplicas: 3, availableReplicas: 3}}", "waits for pods of the new revision to be made: 1 of 3 are there"},
		{apps + "Deployment, spec: {replicas: 3}, status: {observedGeneration: 1, replicas: 3, updatedReplicas: 3, readyReplicas: 2, availableReplicas: 2}}", "waits for its pods to be ready: 2 of 3 are"},
		{apps + "Deployment, spec: {replicas: 2}, status: {observedGeneration: 1, replicas: 3, updatedReplicas: 2, readyReplicas: 3, availableReplicas: 3}}", "waits for 1 pod of before to end"},
		{apps + "Deployment, spec: {replicas: 2}, status: {observedGeneration: 1, replicas: 2, updatedReplicas: 2, readyReplicas: 2, availableReplicas: 1}}", "waits for its pods to have been ready for minReadySeconds: 1 of 2 have"},
		{apps + "Deployment, spec: {progressDeadlineSeconds: 60}, status: {observedGeneration: 1, replicas: 1, updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1}}", "waits for its controller to call it available"},
		{apps + "StatefulSet}", "waits for its pods to be made: 0 of 1 are there"},
		{apps + "StatefulSet, spec: {replicas: 2}, status: {observedGeneration: 1, replicas: 2, currentReplicas: 2, readyReplicas: 1}}", "waits for its pods to be ready: 1 of 2 are"},
		{apps + "StatefulSet, spec: {replicas: 2}, status: {observedGeneration: 1, replicas: 2, readyReplicas: 2, currentReplicas: 1, updatedReplicas: 1, currentRevision: a, updateRevision: b}}", "waits for its pods to be replaced by those of the new revision: 1 of 2 are"},
		{apps + "StatefulSet, spec: {replicas: 3, updateStrategy: {rollingUpdate: {partition: 1}}}, status: {observedGeneration: 1, replicas: 3, readyReplicas: 3, updatedReplicas: 1}}", "waits for its pods to be replaced by those of the new revision: 2 of 3 are"},
		{apps + "DaemonSet, status: {observedGeneration: 1}}", "waits for its controller to count the nodes"},
		{apps + "DaemonSet, status: {observedGeneration: 1, desiredNumberScheduled: 3, currentNumberScheduled: 2}}", "waits for its pods to be made: 2 of 3 nodes have one"},
		{apps + "DaemonSet, status: {observedGeneration: 1, desiredNumberScheduled: 3, currentNumberScheduled: 3, updatedNumberScheduled: 1}}", "waits for its pods to be replaced by those of the new revision: 1 of 3 nodes have one"},
		{apps + "DaemonSet, status: {observedGeneration: 1, desiredNumberScheduled: 3, currentNumberScheduled: 3, updatedNumberScheduled: 3, numberReady: 2}}", "waits for its pods to be ready: 0 of 3 nodes have one that is"},
		{core + "PersistentVolumeClaim, spec: {storageClassName: fast}, status: {phase: Pending}}", "waits for storage class fast to give it a volume"},
		{core + "PersistentVolumeClaim, spec: {storageClassName: ''}, status: {phase: Pending}}", "waits for a volume that somebody makes by hand: it is to have no storage class"},
		{core + "PersistentVolumeClaim, status: {phase: Lost}}", "the volume it was bound to is gone"},
		{core + "Service, spec: {type: LoadBalancer}, status: {loadBalancer: {ingress: [{ip: 1.2.3.4}]}}}", "waits for the API server to give it an address"},
		{core + "Pod}", "waits for a node to take it"},
		{core + "Pod, status: {phase: Pending}}", "waits for its containers to start"},
		{core + "Pod, status: {phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: no room}]}}", "no node takes it: Unschedulable: no room"},
		{core + "Pod, status: {phase: Running}}", "runs and is not ready"},
		{core + "Pod, status: {phase: Running, containerStatuses: [{name: c, state: {waiting: {reason: CrashLoopBackOff}}}]}}", "its container c ends again and again"},
		{"{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: c}, status: {conditions: [{type: NamesAccepted, status: 'False', reason: ListKindConflict, message: taken}]}}", "its names are refused, since another definition has them: ListKindConflict: taken"},
		{"{apiVersion: batch/v1, kind: Job, metadata: {name: j}, status: {conditions: [{type: Failed, status: 'True', reason: BackoffLimitExceeded, message: Job has reached the specified backoff limit}]}}", "it has failed as often as its backoffLimit lets it (BackoffLimitExceeded)"},
		{"{apiVersion: example.com/v1, kind: Widget, metadata: {name: w}, status: {conditions: [{type: Ready, status: 'False', reason: Broken}]}}", "is not ready: Broken"},
		{"{apiVersion: example.com/v1, kind: Widget, metadata: {name: w}, status: {conditions: [{type: Ready, status: 'False'}]}}", "its controller does not call it ready yet"},
	} {
		if h := HealthOf(parse(t, tt.object)); h.Message != tt.message || h.Status == reconcile.Ready {
			t.Errorf("%s\n got %+v\nwant %s", tt.object, h, tt.message)
		}
	}
}

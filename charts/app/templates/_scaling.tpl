{{/*
The number of replicas. All take a dict with "root", "component", "name" (of
the Deployment) and "scaling".
*/}}

{{/* Left out when an autoscaler owns it, so that nobody resets its choice. */}}
{{- define "app.replicas" -}}
{{- if le (int .scaling.max) (int .scaling.min) }}
replicas: {{ int .scaling.min }}
{{- end }}
{{- end }}

{{/*
How the app's pods are replaced. A volume that one node or one pod may mount
cannot be mounted by the next pod before the last one is gone: with a surge the
rollout would wait for ever.
*/}}
{{- define "app.strategy" -}}
{{- $alone := false }}
{{- range .Values.volumes }}
{{- if ne .access "ReadWriteMany" }}{{ $alone = true }}{{ end }}
{{- end }}
{{- if $alone -}}
type: Recreate
{{- else -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: 1
  maxUnavailable: 0
{{- end }}
{{- end }}

{{- define "app.autoscaler" -}}
{{- if gt (int .scaling.max) (int .scaling.min) }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "app.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ .name | quote }}
  minReplicas: {{ int .scaling.min }}
  maxReplicas: {{ int .scaling.max }}
  metrics:
    {{- if gt (int .scaling.cpuTarget) 0 }}
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ int .scaling.cpuTarget }}
    {{- end }}
    {{- if gt (int .scaling.memoryTarget) 0 }}
    - type: Resource
      resource:
        name: memory
        target:
          type: Utilization
          averageUtilization: {{ int .scaling.memoryTarget }}
    {{- end }}
    {{- if and (le (int .scaling.cpuTarget) 0) (le (int .scaling.memoryTarget) 0) }}
    {{- fail (printf "%s: an autoscaler needs cpuTarget or memoryTarget" .name) }}
    {{- end }}
  behavior:
    # Down slowly, in small steps; up at once.
    scaleDown:
      stabilizationWindowSeconds: {{ int .scaling.scaleDownSeconds }}
      selectPolicy: Max
      policies:
        - type: Percent
          value: 10
          periodSeconds: 60
        - type: Pods
          value: 1
          periodSeconds: 60
    scaleUp:
      stabilizationWindowSeconds: 0
      selectPolicy: Max
      policies:
        - type: Percent
          value: 100
          periodSeconds: 15
        - type: Pods
          value: 4
          periodSeconds: 15
{{- end }}
{{- end }}

{{/*
None for a single replica. One away is always allowed, so that a drain never
hangs, not even while an autoscaler is down to one.
*/}}
{{- define "app.disruption-budget" -}}
{{- if ge (int .scaling.max) 2 }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "app.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  # Broken pods must not keep a node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "app.selector" . | nindent 6 }}
{{- end }}
{{- end }}

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
    scaleDown:
      stabilizationWindowSeconds: {{ int .scaling.scaleDownSeconds }}
{{- end }}
{{- end }}

{{/* None for a single replica: it would make every node drain hang. */}}
{{- define "app.disruption-budget" -}}
{{- if ge (int .scaling.min) 2 }}
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

{{/* Strings are quoted throughout: a release may be called "on" or "null". */}}

{{- define "redis.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: cache
{{- end }}

{{- define "redis.labels" -}}
{{ include "redis.selector" . }}
app.kubernetes.io/part-of: {{ .Values.partOf | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
forged.dev/environment: {{ .Values.environment | quote }}
{{- end }}

{{/*
Labels of the claim. Claims outlive releases and cannot be relabelled through
the StatefulSet, so they carry only what never changes, and say that they are
data.
*/}}
{{- define "redis.data-labels" -}}
{{ include "redis.selector" . }}
app.kubernetes.io/part-of: {{ .Values.partOf | quote }}
forged.dev/environment: {{ .Values.environment | quote }}
forged.dev/data: redis
{{- end }}

{{- define "redis.headless-name" -}}
{{ .Release.Name }}-headless
{{- end }}

{{- define "redis.resources" -}}
requests:
  cpu: {{ .Values.resources.cpu | quote }}
  memory: {{ .Values.resources.memory | quote }}
{{- if or .Values.resources.cpuLimit .Values.resources.memoryLimit }}
limits:
  {{- with .Values.resources.cpuLimit }}
  cpu: {{ . | quote }}
  {{- end }}
  {{- with .Values.resources.memoryLimit }}
  memory: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

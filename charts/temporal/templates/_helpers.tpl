{{/*
Names and labels. Everything takes a dict with "root", the chart's context, and
"component", "server" or "web".
Strings are quoted throughout: a release may be called "on" or "null".
*/}}

{{- define "temporal.instance" -}}
app.kubernetes.io/name: {{ .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "temporal.selector" -}}
{{ include "temporal.instance" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "temporal.labels" -}}
{{ include "temporal.selector" . }}
app.kubernetes.io/part-of: {{ .root.Values.partOf | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
forged.dev/environment: {{ .root.Values.environment | quote }}
{{- end }}

{{/* Metadata of an object: "name". */}}
{{- define "temporal.metadata" -}}
name: {{ .name | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "temporal.labels" . | nindent 2 }}
{{- end }}

{{- define "temporal.web-name" -}}
{{ .Release.Name }}-web
{{- end }}

{{- define "temporal.config-name" -}}
{{ .Release.Name }}-config
{{- end }}

{{- define "temporal.shards-name" -}}
{{ .Release.Name }}-history-shards
{{- end }}

{{/* What the pods of the page read, also hashed into their template. */}}
{{- define "temporal.web-config" -}}
temporalGrpcAddress: {{ printf "%s:7233" .Release.Name | quote }}
port: 8080
enableUi: true
# The browser would ask GitHub.
notifyOnNewVersion: false
cors:
  allowOrigins:
    - http://localhost:8080
{{- end }}

{{/* Security of a pod whose processes run as the number given. */}}
{{- define "temporal.pod-security" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "temporal.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ .Values.temporaryVolumes }}
capabilities:
  drop:
    - ALL
{{- end }}

{{- define "temporal.resources" -}}
requests:
  cpu: {{ .cpu | quote }}
  memory: {{ .memory | quote }}
{{- if or .cpuLimit .memoryLimit }}
limits:
  {{- with .cpuLimit }}
  cpu: {{ . | quote }}
  {{- end }}
  {{- with .memoryLimit }}
  memory: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

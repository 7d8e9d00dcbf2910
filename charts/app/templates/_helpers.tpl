{{/*
Names and labels. Everything takes a dict with "root", the chart's context, and
"component", "application" or "worker-<name>".
Strings are quoted throughout: a release may be called "on" or "null".
*/}}

{{- define "app.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component | quote }}
{{- end }}

{{- define "app.labels" -}}
{{ include "app.selector" . }}
app.kubernetes.io/part-of: {{ .root.Values.partOf | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
forged.dev/environment: {{ .root.Values.environment | quote }}
{{- end }}

{{/* Metadata of an object: "name", and optionally "annotations". */}}
{{- define "app.metadata" -}}
name: {{ .name | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "app.labels" . | nindent 2 }}
{{- with get . "annotations" }}
annotations:
  {{- range $key, $value := . }}
  {{ $key | quote }}: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "app.env-name" -}}
{{ .Release.Name }}-env
{{- end }}

{{/* The data of the ConfigMap, also hashed into the pod templates. */}}
{{- define "app.env-data" -}}
{{- range $key, $value := .Values.env }}
{{ $key | quote }}: {{ $value | quote }}
{{- end }}
{{- end }}

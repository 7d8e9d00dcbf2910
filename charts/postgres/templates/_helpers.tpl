{{/* Strings are quoted throughout: a release may be called "on" or "null". */}}

{{- define "postgres.instance" -}}
app.kubernetes.io/name: {{ .Chart.Name | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "postgres.selector" -}}
{{ include "postgres.instance" . }}
app.kubernetes.io/component: database
{{- end }}

{{- define "postgres.common" -}}
app.kubernetes.io/part-of: {{ .Values.partOf | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
forged.dev/environment: {{ .Values.environment | quote }}
{{- end }}

{{- define "postgres.labels" -}}
{{ include "postgres.selector" . }}
{{ include "postgres.common" . }}
{{- end }}

{{/* Of the dumps: their pods are no database, and clients of it. */}}
{{- define "postgres.backup-selector" -}}
{{ include "postgres.instance" . }}
app.kubernetes.io/component: backup
{{- end }}

{{- define "postgres.backup-labels" -}}
{{ include "postgres.backup-selector" . }}
{{ include "postgres.common" . }}
{{- end }}

{{/* At most 52 characters: Kubernetes adds to the name of a CronJob. */}}
{{- define "postgres.backup-name" -}}
{{- $name := printf "%s-backup" .Release.Name }}
{{- if gt (len $name) 52 }}
{{- $name = printf "%s-%s" (trunc 43 $name | trimSuffix "-") (sha256sum $name | trunc 8) }}
{{- end }}
{{- $name }}
{{- end }}

{{/*
Labels of the claim. Claims outlive releases and cannot be relabelled through
the StatefulSet, so they carry only what never changes, and say that they are
data.
*/}}
{{- define "postgres.data-labels" -}}
{{ include "postgres.selector" . }}
app.kubernetes.io/part-of: {{ .Values.partOf | quote }}
forged.dev/environment: {{ .Values.environment | quote }}
forged.dev/data: postgres
{{- end }}

{{- define "postgres.headless-name" -}}
{{ .Release.Name }}-headless
{{- end }}

{{- define "postgres.resources" -}}
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

{{- define "postgres.pod-security" -}}
runAsNonRoot: true
# postgres in the Debian image; Alpine has another number, which is why the
# schema of the values takes no image of Alpine.
runAsUser: 999
runAsGroup: 999
fsGroup: 999
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "postgres.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: {{ .Values.temporaryVolumes }}
capabilities:
  drop:
    - ALL
{{- end }}

{{/* Roles, databases and passwords, as server and dumps read them. */}}
{{- define "postgres.env" -}}
- name: POSTGRES_USER
  value: {{ .Values.user | quote }}
- name: POSTGRES_DB
  value: {{ .Values.database | quote }}
- name: POSTGRES_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .Values.secretName | quote }}
      key: password
{{- range $i, $role := .Values.roles }}
- name: {{ printf "ROLE_%d_PASSWORD" $i }}
  valueFrom:
    secretKeyRef:
      name: {{ $role.secretName | quote }}
      key: {{ $role.key | quote }}
{{- end }}
{{- end }}

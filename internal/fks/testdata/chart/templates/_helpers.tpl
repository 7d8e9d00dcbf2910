{{- define "bazaar.labels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "bazaar.image" -}}
{{ .Values.image.registry }}/{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}

{{- define "bazaar.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: http}
  failureThreshold: 30
readinessProbe:
  httpGet: {path: /ready, port: http}
livenessProbe:
  exec: {command: [/bin/bazaar, ping, --token, {{ .token | quote }}]}
{{- end }}

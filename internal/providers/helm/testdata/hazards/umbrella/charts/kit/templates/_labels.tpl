{{- define "kit.labels" -}}
team: {{ .Values.global.team }}
chart: {{ .Chart.Name }}
{{- end }}

{{/*
Files of Secrets and ConfigMaps. Nothing but forged writes below /run/forged:
that directory is mounted as a whole, so that what changes in it is seen while
the pod runs. Any other file goes to exactly its path, since a mounted
directory would hide what the image has beside it; it changes with the next
pod, and the checksum of its source makes one.
*/}}
{{- define "app.forged-files" -}}
{{- $found := list }}
{{- range .Values.files }}
{{- if hasPrefix "/run/forged/" .path }}{{ $found = append $found . }}{{ end }}
{{- end }}
{{- toYaml $found }}
{{- end }}

{{- define "app.other-files" -}}
{{- $found := list }}
{{- range .Values.files }}
{{- if not (hasPrefix "/run/forged/" .path) }}{{ $found = append $found . }}{{ end }}
{{- end }}
{{- toYaml $found }}
{{- end }}

{{/* One source of a projected volume: "file", and where it goes "to". */}}
{{- define "app.file-source" -}}
- {{ ternary "secret" "configMap" (ne .file.secret "") }}:
    name: {{ .file.secret | default .file.config | quote }}
    items:
      - key: {{ .file.key | quote }}
        path: {{ .to | quote }}
{{- end }}

{{/*
How the server starts. Its settings come through a pipe, so that the password
stands neither in the arguments, which ps shows, nor in a file.
*/}}
{{- define "redis.start" -}}
password=$(printf '%s' "$REDISCLI_AUTH" | sed 's/["\\]/\\&/g')
exec redis-server - <<EOF
bind * -::*
port 6379
dir /data
save ""
appendonly {{ ternary "yes" "no" .Values.persistence }}
appendfsync everysec
maxmemory {{ .Values.maxMemory }}
maxmemory-policy {{ .Values.eviction }}
requirepass "$password"
EOF
{{- end }}

{{/*
How the server starts. Its settings come through a pipe, so that the password
stands neither in the arguments, which ps shows, nor in a file. Where nobody says
who runs it, it is root, and so is the owner of a new volume.
*/}}
{{- define "redis.start" -}}
password=$(printf '%s' "$REDISCLI_AUTH" | sed 's/["\\]/\\&/g')
as=
if [ "$(id -u)" = 0 ]; then
  chown redis: /data
  as="setpriv --reuid=redis --regid=redis --clear-groups"
fi
exec $as redis-server - <<EOF
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

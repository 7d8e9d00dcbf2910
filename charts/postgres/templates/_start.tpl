{{/*
How the server starts. It does not use the image's entrypoint, which leaves a
data directory that never works when it is cut off during the first start.
Everything here can be cut off anywhere and run again.
Passwords go through pipes, never through arguments, which ps shows.
*/}}
{{- define "postgres.start" -}}
umask 077
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # Made aside and then renamed: either it is complete, or it is not there.
  rm -rf "$PGDATA.new"
  printf '%s\n' "$POSTGRES_PASSWORD" |
    initdb -D "$PGDATA.new" --username="$POSTGRES_USER" --pwfile=/dev/stdin \
      --auth-local=scram-sha-256 --auth-host=scram-sha-256 \
      --encoding=UTF8 --locale=C.UTF-8 --data-checksums
  printf 'host all all all scram-sha-256\n' >> "$PGDATA.new/pg_hba.conf"
  mv "$PGDATA.new" "$PGDATA"
fi
# Kubernetes may open the directory to the group, the server refuses that.
chmod 0700 "$PGDATA"
# The database must exist and the role must have the password of the Secret,
# also when either was changed since the last start. That the database is
# already there is an error nobody needs to see.
password=$(printf '%s' "$POSTGRES_PASSWORD" | sed "s/'/''/g")
printf "CREATE DATABASE \"%s\";\nALTER ROLE \"%s\" PASSWORD '%s';\n" \
  "$POSTGRES_DB" "$POSTGRES_USER" "$password" |
  postgres --single -D "$PGDATA" -c log_min_messages=fatal -c log_statement=none postgres > /dev/null
exec postgres -D "$PGDATA" -c listen_addresses='*'
{{- end }}

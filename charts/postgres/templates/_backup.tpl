{{/*
Dumps every database as the role that owns it; or, with the name of a dump in
$RESTORE, brings that one back. A dump is complete and can be read, or it is
not there. Old ones go only after all new ones are there.
*/}}
{{- define "postgres.backup" -}}
umask 077
cd /backups
now=$(date -u +%Y%m%dT%H%M%SZ)
failed=
dump() { # role, password, databases
  export PGUSER="$1" PGPASSWORD="$2"
  shift 2
  for database; do
    file="$database-$now.dump" part=".$database-$now.part" began=$(date +%s)
    rm -f ".$database-"*.part # of a run that was cut off
    if pg_dump --format=custom --lock-wait-timeout=5min --file="$part" "$database" &&
      pg_restore --list "$part" > /dev/null && sync "$part" && mv "$part" "$file"; then
      echo "dumped database=$database file=$file bytes=$(wc -c < "$file") seconds=$(($(date +%s) - began))"
    else
      rm -f "$part"
      echo "no dump of database=$database" >&2
      failed="$failed $database"
    fi
  done
}
restore() { # role, password, databases
  export PGUSER="$1" PGPASSWORD="$2"
  shift 2
  for database; do
    if [ "${RESTORE%-*}" = "$database" ]; then
      # All that is there goes and all that was dumped comes, or nothing
      # happens: without its end the transaction is none.
      done=$(
        {
          echo "BEGIN; DROP OWNED BY CURRENT_USER CASCADE; GRANT ALL ON DATABASE $database TO CURRENT_USER;"
          pg_restore --no-owner --file=- "$RESTORE" && printf 'COMMIT;\n\\echo restored\n'
        } | psql -XqtA -v ON_ERROR_STOP=1 "$database" | tail -n 1
      )
      [ "$done" = restored ] || { echo "Nothing was restored." >&2; exit 1; }
      echo "restored database=$database file=$RESTORE"
    fi
  done
}
each() {
  "$1" "$POSTGRES_USER" "$POSTGRES_PASSWORD" "$POSTGRES_DB"
  {{- range $i, $role := .Values.roles }}
  "$1" {{ $role.name }} "$ROLE_{{ $i }}_PASSWORD"{{ range $role.databases }} {{ . }}{{ end }}
  {{- end }}
}
if [ -n "${RESTORE:-}" ]; then
  done=
  each restore
  [ -n "$done" ] || { echo "$RESTORE is no dump of a database of this server." >&2; exit 1; }
  exit 0
fi
each dump
if [ -n "$failed" ]; then
  echo "Nothing old was removed: there is no new dump of$failed." >&2
  exit 1
fi
find . -maxdepth 1 -name '*.dump' -mmin +{{ mul (int .Values.backup.keepDays) 1440 }} -print -delete
{{- end }}

{{/*
How the server starts. It does not use the image's entrypoint, which leaves a
data directory that never works when it is cut off during the first start.
Everything here can be cut off anywhere and run again.
Passwords go through variables and pipes, never through arguments, which ps
shows, and psql writes them into SQL, so that they may hold any character.
*/}}
{{- define "postgres.start" -}}
umask 077
run=/var/run/postgresql
if [ -s "$PGDATA/PG_VERSION" ]; then
  written=$(cat "$PGDATA/PG_VERSION")
  ours=$(postgres --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
  if [ "$written" != "$ours" ]; then
    echo "The data was written by PostgreSQL $written, and this is $ours. Go back to version $written, dump the databases, and restore them into a new volume." >&2
    exit 1
  fi
else
  # Made aside and then renamed: either it is complete, or it is not there.
  rm -rf "$PGDATA.new"
  initdb -D "$PGDATA.new" --username=postgres --auth-local=peer --auth-host=reject \
    --encoding=UTF8 --locale=C.UTF-8 --data-checksums
  mv "$PGDATA.new" "$PGDATA"
fi
# Kubernetes may open the directory to the group, the server refuses that.
chmod 0700 "$PGDATA"
# Of a server that was cut off before it wrote its number there. No other one
# has this volume.
[ -s "$PGDATA/postmaster.pid" ] || rm -f "$PGDATA/postmaster.pid"

# Before anybody can connect, roles have the passwords of their Secrets and
# databases are there, also when something was changed since the last start.
# Meanwhile the server is to be reached through a directory of our own only.
private=$(mktemp -d)
printf 'local all all trust\n' > "$private/pg_hba.conf"
postgres -D "$PGDATA" -c listen_addresses= -c unix_socket_directories="$private" -c hba_file="$private/pg_hba.conf" \
  -c log_min_error_statement=panic &
end() { kill -INT $! && wait $!; }
trap end EXIT
until pg_isready -q -h "$private"; do
  kill -0 $! 2> /dev/null || { trap - EXIT; exit 1; } # it has said why
  sleep 0.1
done
role() { # name, password, databases that it owns
  [ -n "$2" ] || { echo "The Secret has no password for the role $1." >&2; exit 1; }
  name=$1 password=$2
  shift 2
  for database; do
    ROLE_PASSWORD=$password psql -XqtA -v ON_ERROR_STOP=1 -h "$private" -U postgres -d postgres \
      -v role="$name" -v database="$database" -v schema="$schema" <<'SQL'
\getenv password ROLE_PASSWORD
SET client_min_messages = warning;
SELECT format('CREATE ROLE %I', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
ALTER ROLE :"role" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'role') WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
ALTER DATABASE :"database" OWNER TO :"role";
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
SELECT :'schema' <> '' AS named \gset
\if :named
ALTER ROLE :"role" IN DATABASE :"database" SET search_path = :"schema", public;
\connect :"database"
CREATE SCHEMA IF NOT EXISTS :"schema" AUTHORIZATION :"role";
\endif
SQL
  done
}
schema={{ .Values.schema }}
role "$POSTGRES_USER" "$POSTGRES_PASSWORD" "$POSTGRES_DB"
schema=
{{- range $i, $role := .Values.roles }}
role {{ $role.name }} "$ROLE_{{ $i }}_PASSWORD"{{ range $role.databases }} {{ . }}{{ end }}
{{- end }}
trap - EXIT
end
rm -rf "$private"

cat > "$run/pg_hba.conf" <<'EOF'
{{ include "postgres.hba" . }}
EOF
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories="$run" -c hba_file="$run/pg_hba.conf" \
  -c password_encryption=scram-sha-256{{ if .Values.tlsSecret }} \
  -c ssl=on -c ssl_min_protocol_version=TLSv1.2 -c ssl_cert_file="$run/tls.crt" -c ssl_key_file="$run/tls.key"{{ end }}
{{- end }}

{{/*
Who may log in: roles with their passwords, from the ranges that are listed or
from anywhere; network policies say who gets as far as here. The superuser has
no password and logs in from inside of the container only.
*/}}
{{- define "postgres.hba" -}}
{{- $host := ternary "hostssl" "host" (ne .Values.tlsSecret "") -}}
local all postgres peer
host all postgres all reject
local all all scram-sha-256
{{- range concat (list "127.0.0.1/32" "::1/128") (.Values.podCIDRs | default (list "all")) }}
{{ $host }} all all {{ . }} scram-sha-256
{{- end }}
{{- end }}

{{/*
Who the server runs as. Where nobody says so it is root, and so is the owner of
a new volume: the server refuses to be root.
*/}}
{{- define "postgres.user" -}}
umask 077
run=/var/run/postgresql
{{- if .Values.tlsSecret }}
# The server wants a key that is its own and nobody else's, whatever the mode
# that a Secret is mounted with.
cat /run/forged/tls/tls.crt > "$run/tls.crt"
cat /run/forged/tls/tls.key > "$run/tls.key"
{{- end }}
[ "$(id -u)" = 0 ] || exec sh -ec "$0"
chown -R postgres: "$run"
chown postgres: "${PGDATA%/*}"
HOME=/var/lib/postgresql exec setpriv --reuid=postgres --regid=postgres --clear-groups sh -ec "$0"
{{- end }}

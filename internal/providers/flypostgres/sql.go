package flypostgres

import (
	"fmt"
	"strings"
)

// literal is a text as it stands in a statement. Names and texts are never put
// into statements in another way.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// identifier is a name as it stands in a statement.
func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// preamble begins every script. What is asked and done is done with PostgreSQL's
// own functions: others, which a client may have made, are not found. A
// backslash is a character like any other.
const preamble = "SET standard_conforming_strings = on;\nSET search_path = pg_catalog, pg_temp;\n"

// surveyScript asks what is there of some roles and databases. It answers with
// one line of JSON, of a survey.
func surveyScript(roles, databases []string) string {
	return preamble + fmt.Sprintf(`SELECT json_build_object(
  'standby', pg_is_in_recovery(),
  'readOnly', current_setting('default_transaction_read_only') = 'on',
  'roles', coalesce((SELECT json_object_agg(r.rolname, json_build_object(
      'login', r.rolcanlogin,
      'expired', coalesce(r.rolvaliduntil < now(), false),
      'mighty', r.rolsuper OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls OR starts_with(r.rolname::text, 'pg_'),
      'verifier', coalesce(a.rolpassword, ''),
      'comment', coalesce(shobj_description(r.oid, 'pg_authid'), '')))
    FROM pg_roles r JOIN pg_authid a ON a.oid = r.oid WHERE r.rolname = ANY (%s)), '{}'),
  'databases', coalesce((SELECT json_object_agg(d.datname, json_build_object(
      'oid', d.oid::text,
      'owner', pg_get_userbyid(d.datdba),
      'bytes', pg_database_size(d.oid)))
    FROM pg_database d WHERE d.datname = ANY (%s)), '{}'));
`, names(roles), names(databases))
}

// names is an array of names.
func names(all []string) string {
	quoted := make([]string, len(all))
	for i, name := range all {
		quoted[i] = literal(name)
	}
	return "ARRAY[" + strings.Join(quoted, ", ") + "]::name[]"
}

// roleScript makes or changes a role, and says whose it is, at once. The
// verifier is empty where the password stays.
func roleScript(name, verifier, comment string, create bool) string {
	verb, password := "ALTER", ""
	if create {
		verb = "CREATE"
	}
	if verifier != "" {
		password = " PASSWORD " + literal(verifier)
	}
	return preamble + fmt.Sprintf("BEGIN;\n%[1]s ROLE %[2]s LOGIN VALID UNTIL 'infinity'%[3]s;\nCOMMENT ON ROLE %[2]s IS %[4]s;\nCOMMIT;\n",
		verb, identifier(name), password, literal(comment))
}

// databaseScript makes a database, or gives one that is there to a role.
func databaseScript(name, owner string, create bool) string {
	change := "ALTER DATABASE %s OWNER TO %s;\n"
	if create {
		change = "CREATE DATABASE %s OWNER %s;\n"
	}
	return preamble + fmt.Sprintf(change, identifier(name), identifier(owner))
}

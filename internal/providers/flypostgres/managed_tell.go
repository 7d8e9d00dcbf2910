package flypostgres

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// Observed implements fly.View.
func (s *cluster) Observed() reconcile.Observed {
	o := reconcile.Observed{Health: s.health()}
	o.Exists = s.cluster.id != "" && s.place != foreign && (s.Recorded || o.Health.Status == reconcile.Ready)
	if s.Request.Remove {
		o.Exists = s.Recorded && s.cluster.id != ""
		return o
	}
	if s.in == nil || !o.Exists {
		return o
	}
	o.Outputs = s.outputs()
	for _, e := range s.Record.Entries {
		if e.Identity != "" {
			o.Objects++
		}
	}
	if b := s.in.backup; b != nil && broken(*b) {
		o.Notices = append(o.Notices, reconcile.Notice{
			Code: "backup", Object: entryCluster + " " + s.cluster.name,
			Message: "its last backup, of " + b.StartedAt.UTC().Format(time.RFC3339) + ", has failed; see Fly's dashboard, or make one with \"fly mpg backup create " + s.cluster.id + "\"",
		})
	}
	return o
}

func (s *cluster) health() reconcile.Health {
	object := "cluster " + s.spec.Name
	switch s.place {
	case absent, crowded, foreign:
		return reconcile.Health{Status: reconcile.Unknown}
	case gone:
		return reconcile.Health{Status: reconcile.Failed, Message: object + " was deleted"}
	}
	switch s.cluster.status {
	case statusReady:
	case statusCreating, statusInitializing:
		return reconcile.Health{Status: reconcile.Progressing, Message: "Fly is making " + object + " (" + s.cluster.status + ")"}
	case statusFailed, statusError:
		return reconcile.Health{Status: reconcile.Failed, Message: fmt.Sprintf(
			"Fly says that %s (%s) has failed; ask Fly's support, or delete it with \"fly mpg destroy %s\": if it never was ready, another one is made", object, s.cluster.id, s.cluster.id)}
	default:
		return reconcile.Health{Status: reconcile.Unknown, Message: fmt.Sprintf("Fly says that %s is %q, which forged does not know", object, s.cluster.status)}
	}
	var missing []string
	for _, user := range s.users() {
		if _, ok := s.in.passwords[user]; !ok {
			missing = append(missing, "user "+user)
		}
	}
	for _, database := range s.databases() {
		if !slices.Contains(s.in.databases, database) {
			missing = append(missing, "database "+database)
		}
	}
	if len(missing) > 0 {
		return reconcile.Health{Status: reconcile.Progressing, Message: object + " has no " + strings.Join(missing, ", no ") + " yet"}
	}
	if s.cluster.host == "" {
		return reconcile.Health{Status: reconcile.Progressing, Message: object + " has no address yet"}
	}
	message := "no backup yet"
	if b := s.in.backup; b != nil && !broken(*b) {
		message = "last backup " + b.FinishedAt.UTC().Format(time.RFC3339)
	}
	return reconcile.Health{Status: reconcile.Ready, Message: message}
}

// outputs are what clients need; none until all of it is known.
func (s *cluster) outputs() reconcile.Outputs {
	if s.cluster.host == "" || !slices.Contains(s.in.databases, s.spec.Database) {
		return nil
	}
	port := s.cluster.port
	if port == 0 {
		port = 5432
	}
	o := reconcile.Outputs{
		forge.OutputHost:     {Value: s.cluster.host},
		forge.OutputPort:     {Value: fmt.Sprint(port)},
		forge.OutputDatabase: {Value: s.spec.Database},
		forge.OutputUser:     {Value: s.spec.User},
	}
	if s.cluster.poolerHost != "" {
		o[forge.OutputPoolerHost] = reconcile.Output{Value: s.cluster.poolerHost}
	}
	return withPasswords(o, s.spec.User, s.spec.Further, s.in.passwords)
}

// withPasswords adds the passwords; nil when one is missing.
func withPasswords(o reconcile.Outputs, user string, further []forge.FlyPostgresUser, passwords map[string]secret.Value) reconcile.Outputs {
	names := map[string]string{user: forge.OutputPassword}
	for _, f := range further {
		if f.Name != user {
			names[f.Name] = forge.OutputPassword + "/" + f.Name
		}
	}
	for name, output := range names {
		password, ok := passwords[name]
		if !ok {
			return nil
		}
		o[output] = reconcile.Output{Secret: password}
	}
	return o
}

// Print implements fly.View.
func (s *cluster) Print() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s %+v %v\n", s.place, s.cluster, s.others)
	if s.in != nil {
		fmt.Fprintf(h, "%v %v %v %+v\n", s.in.users, s.in.databases, s.in.extensions, s.in.backup)
		for _, user := range slices.Sorted(maps.Keys(s.in.passwords)) {
			fmt.Fprintf(h, "%s %x\n", user, sha256.Sum256(s.in.passwords[user].Reveal()))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

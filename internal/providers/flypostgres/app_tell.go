package flypostgres

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/reconcile"
	"forged.dev/forged/internal/secret"
)

// Observed implements fly.View.
func (s *flex) Observed() reconcile.Observed {
	o := reconcile.Observed{Health: s.health()}
	there := s.place == known || s.place == used || s.place == begun
	if s.Request.Remove {
		o.Exists = s.Recorded && there
		return o
	}
	o.Exists = there && (s.Recorded || o.Health.Status == reconcile.Ready)
	if !there || s.parts.survey == nil {
		return o
	}
	for _, e := range s.Record.Entries {
		if e.Identity != "" {
			o.Objects++
		}
	}
	for _, m := range s.parts.machines {
		if why := unwell(m); why != "" {
			o.Notices = append(o.Notices, reconcile.Notice{Code: "machine", Object: "machine " + m.ID, Message: why})
		}
	}
	o.Outputs = s.outputs()
	return o
}

func (s *flex) health() reconcile.Health {
	switch s.place {
	case absent, foreign:
		return reconcile.Health{Status: reconcile.Unknown}
	case gone:
		return reconcile.Health{Status: reconcile.Failed, Message: s.object() + " was deleted"}
	}
	p := s.parts
	if p.survey == nil {
		status := reconcile.Failed
		if s.place != used { // it is being made, or changes its leader
			status = reconcile.Progressing
		}
		return reconcile.Health{Status: status, Message: s.object() + ": " + p.trouble}
	}
	if p.survey.ReadOnly {
		return reconcile.Health{Status: reconcile.Failed, Message: s.object() + " takes no writes: its disk may be full"}
	}
	if missing := s.missing(); len(missing) > 0 {
		return reconcile.Health{Status: reconcile.Progressing, Message: "not as it should be: " + strings.Join(missing, ", ")}
	}
	well := 0
	for _, m := range p.machines {
		if unwell(m) == "" {
			well++
		}
	}
	return reconcile.Health{Status: reconcile.Ready, Message: fmt.Sprintf("machine %s leads, %d of %d are well", p.leader, well, len(p.machines))}
}

// missing names what does not let clients in.
func (s *flex) missing() []string {
	var all []string
	for _, role := range s.roles() {
		if !s.right(role) {
			all = append(all, "role "+role)
		}
	}
	for _, h := range s.homes() {
		if _, ok := s.parts.survey.Databases[h.database]; !ok {
			all = append(all, "database "+h.database)
		}
	}
	return all
}

func (s *flex) password(role string) secret.Value {
	return passwordOf(s.parts.survey.superuser, s.spec.App, role)
}

// outputs are what clients need; none until all of it works.
func (s *flex) outputs() reconcile.Outputs {
	if len(s.missing()) > 0 {
		return nil
	}
	passwords := map[string]secret.Value{}
	for _, role := range s.roles() {
		passwords[role] = s.password(role)
	}
	return withPasswords(reconcile.Outputs{
		forge.OutputHost:     {Value: s.spec.App + ".flycast"},
		forge.OutputPort:     {Value: "5432"},
		forge.OutputDatabase: {Value: s.spec.Database},
		forge.OutputUser:     {Value: s.spec.User},
	}, s.spec.User, s.spec.Further, passwords)
}

// Print implements fly.View.
func (s *flex) Print() string {
	h := sha256.New()
	fmt.Fprintln(h, s.place)
	if p := s.parts; p != nil {
		for _, m := range p.machines {
			fmt.Fprintln(h, m.ID, m.State, m.InstanceID, unwell(m))
		}
		fmt.Fprintln(h, identityOf(p.app), p.leader, p.trouble, len(p.volumes), p.secrets, p.flycast)
		if v := p.survey; v != nil {
			fmt.Fprintln(h, v.Standby, v.ReadOnly, sha256.Sum256(v.superuser.Reveal()), v.Roles)
			for _, home := range s.homes() {
				fmt.Fprintln(h, home, v.Databases[home.database].Owner)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

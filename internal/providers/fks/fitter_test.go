package fks

import (
	"strings"
	"testing"

	"forged.dev/forged/internal/fks"
	"forged.dev/forged/internal/forge"
)

// What takes nothing from anybody is shown with what was made of an object, after
// the rest, and no notice is given of it.
func TestHarmlessIsNoNotice(t *testing.T) {
	t.Parallel()
	findings := []fks.Finding{
		{Rule: "FKS309", Action: fks.Drop, Object: "Deployment shop/app", Path: "spec.imagePullPolicy", Message: "It is not supported.", Harmless: true},
		{Rule: "FKS306", Action: fks.Drop, Object: "Deployment shop/app", Path: "spec.livenessProbe", Message: "Probes are not supported."},
		{Rule: "FKS207", Action: fks.Warn, Object: "Deployment shop/app", Path: "spec.tolerations", Message: "Nothing is scheduled.", Harmless: true},
		{Rule: "FKS208", Action: fks.Warn, Object: "Deployment shop/app", Path: "spec.dnsPolicy", Message: "Nothing is said."},
	}
	told := notices(findings)
	if len(told) != 2 || !strings.HasPrefix(told[0].Message, "FKS306") || !strings.HasPrefix(told[1].Message, "FKS208") {
		t.Errorf("notices %+v", told)
	}
	made := changes(findings)
	if len(made) != 2 || !strings.Contains(made[0].Path, "FKS306") || !strings.Contains(made[1].Path, "FKS309") {
		t.Errorf("changes %+v", made)
	}
}

// What a rule does is code: another program may fit the same objects in another
// way, and what it has fitted before is looked at anew.
func TestAnotherProgramFitsAnew(t *testing.T) {
	t.Parallel()
	rules := forge.Rules{Table: forge.TableFKS}
	if NewFitter("v1").digest(rules, fks.Capabilities{}) == NewFitter("v2").digest(rules, fks.Capabilities{}) {
		t.Error("two programs have one digest")
	}
	installed := fks.Capabilities{APIGroups: []string{"example.com"}}
	if NewFitter("v1").digest(rules, fks.Capabilities{}) != NewFitter("v1").digest(rules, installed) {
		t.Error("what makes no rule void changes the digest")
	}
}

package fly

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"forged.dev/forged/internal/hostcert"
	"forged.dev/forged/internal/providers/fly/api"
	"forged.dev/forged/internal/reconcile"
)

// Codes of notices about certificates.
const (
	noticeDNS      = "dns"      // a name does not lead where it has to
	noticeExpiring = "expiring" // somebody has to renew a certificate
	noticeFKS      = "fks"      // what Fly does not document of Fly Kubernetes
)

// warnBefore is how long before its end a certificate is told of.
const warnBefore = 14 * 24 * time.Hour

// outputRecord and the use of a record in DNS are the output that it is: a line
// of a zone.
const outputRecord = "dns/"

// observed implements sight.
func (s *certificate) observed() reconcile.Observed {
	o := reconcile.Observed{Exists: s.live != nil, Outputs: reconcile.Outputs{}, Health: reconcile.Health{Status: reconcile.Ready}}
	if s.Request.Remove {
		o.Exists = s.Recorded
		return o
	}
	if s.live == nil {
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: s.object() + " was not asked for yet"}
		return o
	}
	o.Objects = len(s.Record.Entries)
	standing{
		object: s.object() + " of app " + s.app, host: s.spec.Hostname, app: s.app, own: s.kind() == entryCustom, lent: s.lent,
		live: s.live, found: s.provider.checks.found(s.ID()), now: s.now,
	}.tell(&o)
	return o
}

// standing is how a certificate stands.
type standing struct {
	object, host, app string
	own               bool // the user's; else Fly gets one
	lent              bool // the app is a cluster's: several Services share it, each with a load balancer of its own
	live              *api.Certificate
	found             *api.DNSRecords // when Fly looked last; nil: not known
	now               time.Time
}

// entry is the certificate in question; nil: there is none yet.
func (q standing) entry() *api.CertificateEntry {
	source := api.CertificateOfFly
	if q.own {
		source = api.CertificateCustom
	}
	i := slices.IndexFunc(q.live.Certificates, func(c api.CertificateEntry) bool { return c.Source == source })
	if i < 0 {
		return nil
	}
	return &q.live.Certificates[i]
}

// active tells whether the certificate is in use.
func (q standing) active() bool {
	c := q.entry()
	return c != nil && c.Status == api.CertificateActive
}

// claimed tells that somebody else on Fly has the host name, or may have: Fly
// asks for a proof.
func (q standing) claimed() bool {
	c := q.entry()
	const pending = "pending_ownership"
	return !q.live.Validation.Ownership && (q.live.Status == pending || c != nil && c.Status == pending ||
		slices.ContainsFunc(q.live.Errors, func(e api.CertificateComplaint) bool {
			return strings.Contains(strings.ToLower(e.Code+" "+e.Message+" "+e.Remediation), "ownership")
		}))
}

// waits tells that nothing goes on before somebody has changed DNS.
func (q standing) waits() bool { return !q.active() && (q.claimed() || !q.live.Configured && !q.own) }

// tell says how it is. That DNS is not as it has to be is nobody's failure: a
// name belongs to whoever has it.
func (q standing) tell(o *reconcile.Observed) {
	for use, line := range q.records() {
		o.Outputs[outputRecord+use] = reconcile.Output{Value: line}
	}
	if c := q.entry(); c != nil {
		o.Expires = ends(*c)
	}
	if q.lent {
		notice(o, noticeFKS, q.object, "a certificate on the app of a cluster is experimental: whether Fly's proxy leads "+q.host+
			" to the right one of several Services of the cluster is not documented; what comes of it is asked for from outside")
	}
	left := o.Expires.Sub(q.now)
	switch {
	case q.active() && !o.Expires.IsZero() && left <= 0:
		o.Health = reconcile.Health{Status: reconcile.Failed, Message: q.object + " expired on " + hostcert.Day(o.Expires) + q.complaints()}
	case q.active():
		if !o.Expires.IsZero() && left <= warnBefore {
			notice(o, noticeExpiring, q.object, q.expiring(o.Expires, left))
		}
		if !q.live.Configured {
			notice(o, noticeDNS, q.object, q.verdict())
		}
	case q.waits():
		o.Health.Message = "there is no certificate yet: it waits for DNS"
		notice(o, noticeDNS, q.object, q.verdict()+q.complaints())
	case q.live.RateLimitedUntil.After(q.now):
		o.Health = reconcile.Health{
			Status:  reconcile.Progressing,
			Message: "the authority has signed too often for the domain lately; Fly may ask again from " + q.live.RateLimitedUntil.UTC().Format(time.RFC3339) + " on" + q.complaints(),
		}
	case q.own:
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: "waiting for Fly to serve it" + q.complaints()}
	default:
		o.Health = reconcile.Health{Status: reconcile.Progressing, Message: "waiting for Fly to get it" + q.complaints()}
	}
}

func (q standing) expiring(at time.Time, left time.Duration) string {
	text := "its certificate expires in " + hostcert.Away(left) + ", on " + hostcert.Day(at)
	if q.own {
		return text + "; put a new one in its place"
	}
	return text + ", and should have been renewed by now" + q.complaints()
}

// ends is when the first of what was issued does.
func ends(c api.CertificateEntry) time.Time {
	end := c.ExpiresAt.Time
	for _, issued := range c.Issued {
		if at := issued.ExpiresAt.Time; !at.IsZero() && (end.IsZero() || at.Before(end)) {
			end = at
		}
	}
	return end
}

// complaints are what Fly says is wrong.
func (q standing) complaints() string {
	const most = 2
	var said []string
	for _, c := range q.live.Errors[:min(len(q.live.Errors), most)] {
		text := strings.TrimSuffix(c.Message, ".")
		if text == "" {
			text = c.Code
		}
		if c.Remediation != "" {
			text += " (" + strings.TrimSuffix(c.Remediation, ".") + ")"
		}
		said = append(said, text)
	}
	if len(said) == 0 {
		return ""
	}
	return "; Fly says: " + strings.Join(said, "; ")
}

// Uses of records in DNS.
const (
	useA         = "a"
	useAAAA      = "aaaa"
	useCNAME     = "cname"
	useChallenge = "challenge"
	useOwnership = "ownership"
)

// records are the lines of a zone that Fly names, by what they are for.
func (q standing) records() map[string]string {
	lines := map[string]string{}
	several := func(use, kind string, values []string) {
		for i, v := range values {
			key := use
			if i > 0 {
				key = fmt.Sprintf("%s-%d", use, i+1)
			}
			lines[key] = q.host + " " + kind + " " + v
		}
	}
	want := q.live.Requirements
	if !q.lent { // a load balancer has addresses of its own
		several(useA, "A", want.A)
		several(useAAAA, "AAAA", want.AAAA)
		if want.CNAME != "" {
			lines[useCNAME] = q.host + " CNAME " + want.CNAME
		}
	}
	if c := want.ACMEChallenge; c != nil && c.Target != "" {
		lines[useChallenge] = c.Name + " CNAME " + c.Target
	}
	if own := want.Ownership; own != nil && own.AppValue != "" {
		lines[useOwnership] = fmt.Sprintf("%s TXT %q", own.Name, own.AppValue)
	}
	return lines
}

// verdict says what is wrong in DNS, and which records are wanted.
func (q standing) verdict() string {
	lines := q.records()
	var wanted []string
	add := func(uses ...string) {
		for _, use := range uses {
			if line := lines[use]; line != "" {
				wanted = append(wanted, line)
			}
		}
	}
	var said string
	passed := false // something may stand in between
	if q.lent && !q.claimed() && q.leads() != "" {
		return q.lentVerdict(lines[useChallenge])
	}
	switch leads := q.leads(); {
	case q.claimed():
		said = "is not proven to be yours"
	case leads == "" && strings.HasPrefix(q.host, "*."):
		said = "leads to app " + q.app + ", but its challenge was not found"
	case leads == "":
		said = "leads to app " + q.app + ", which Fly has not taken note of yet"
	default:
		said = leads
		passed = q.found != nil && len(q.found.Resolved) > 0
		add(useA, useAAAA)
	}
	if len(wanted) == 0 && !q.claimed() && q.leads() != "" {
		add(useCNAME) // the app has no address of its own
	}
	if strings.HasPrefix(q.host, "*.") {
		add(useChallenge)
	}
	if q.claimed() {
		add(useOwnership)
	}
	text := q.host + " " + said
	if len(wanted) > 0 {
		text += "; wanted: " + strings.Join(wanted, ", ")
	}
	if passed && !strings.HasPrefix(q.host, "*.") {
		wanted = nil
		add(useChallenge, useOwnership)
		if len(wanted) > 0 {
			text += "; or, if something stands in between: " + strings.Join(wanted, ", ")
		}
	}
	return text
}

// lentVerdict is the verdict on a name that has to lead to a load balancer of a
// cluster. Which addresses those are the cluster says, and not the app.
func (q standing) lentVerdict(challenge string) string {
	text := q.host + " does not lead to the load balancer of its Service yet, as far as Fly knows; " +
		"the note of dns/… says which records do"
	if strings.HasPrefix(q.host, "*.") {
		text = q.host + " needs a proof in DNS"
	}
	if challenge == "" {
		return text
	}
	if strings.HasPrefix(q.host, "*.") {
		return text + "; wanted: " + challenge
	}
	return text + "; or, to have the certificate before that: " + challenge
}

// leads says where the name leads, if not to the app; empty: it does.
func (q standing) leads() string {
	if q.lent {
		if q.live.Validation.ALPN || q.live.Validation.HTTP || q.live.Configured {
			return ""
		}
		return "does not lead to the load balancer"
	}
	if q.found == nil {
		if q.live.Validation.ALPN || q.live.Validation.HTTP {
			return ""
		}
		return "does not lead to app " + q.app + " yet, as far as Fly knows"
	}
	want := q.live.Requirements
	if slices.ContainsFunc(q.found.Resolved, func(ip string) bool { return slices.Contains(want.A, ip) || slices.Contains(want.AAAA, ip) }) ||
		want.CNAME != "" && slices.Contains(q.found.CNAME, want.CNAME) {
		return ""
	}
	const most = 3
	if is := q.found.Resolved; len(is) > 0 {
		return "leads to " + strings.Join(is[:min(len(is), most)], ", ") + ", which is right only if something stands in between that passes requests on"
	}
	return "does not resolve"
}

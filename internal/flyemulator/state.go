package flyemulator

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// state is everything that Save keeps.
type state struct {
	Now     time.Time // when it was saved
	Founded time.Time
	Seed    uint64
	Seq     uint64

	Orgs     map[string]*Org // by slug
	Tokens   []*Token
	Apps     map[string]*app
	Hosts    map[string]*host
	Regions  map[string]*regionState
	Postgres map[string]*postgresCluster // by id
	AddOns   map[string]*addOn           // by id
	DNS      dnsTable
	Modes    map[string]string // that were chosen
	Console  console           // what only GraphQL and the console's API know

	Programs   []Program            `json:",omitempty"`
	Digests    map[string]string    `json:",omitempty"` // of images whose tags were moved
	Leaving    map[string]time.Time `json:",omitempty"` // names of deleted apps, until they are free
	Capricious bool                 // the proxy starts and stops machines by itself
	Agenda     agenda
}

// Org is an organization.
type Org struct {
	Slug     string
	RawSlug  string // the real slug where Slug is an alias ("personal"); empty: Slug
	Name     string // empty: Slug
	ID       string // empty: made up
	Number   int    // 0: made up
	Unpaid   bool   // no payment method: one machine an app
	Beta     bool   // may make what is in beta: Fly Kubernetes
	Stranger bool   // no token of ours reaches it
}

func newState(o Options) *state {
	return &state{
		Seed: o.Seed, Orgs: map[string]*Org{}, Apps: map[string]*app{}, Hosts: map[string]*host{},
		Regions: map[string]*regionState{}, Postgres: map[string]*postgresCluster{}, AddOns: map[string]*addOn{},
		DNS: dnsTable{}, Digests: map[string]string{}, Leaving: map[string]time.Time{},
	}
}

// strangers is the organization of the apps that are not ours.
const strangers = "strangers"

// found makes the world of the options.
func (e *Emulator) found() {
	orgs, tokens := e.o.Orgs, e.o.Tokens
	if len(orgs) == 0 {
		orgs = []Org{{Slug: "acme", Beta: true}}
		if len(tokens) == 0 {
			tokens = []Token{{Value: DefaultToken, Kind: OrgToken, Org: "acme"}}
		}
	}
	for _, o := range append(orgs, Org{Slug: strangers, Stranger: true}) {
		if o.RawSlug == "" {
			o.RawSlug = o.Slug
		}
		if o.Name == "" {
			o.Name = o.Slug
		}
		if o.ID == "" {
			o.ID = e.newID("org", 16)
		}
		if o.Number == 0 {
			o.Number = int(e.next())
		}
		e.state.Orgs[o.Slug] = &o
	}
	for _, t := range tokens {
		if t.ID == "" {
			t.ID = e.newID("token", 16)
		}
		e.state.Tokens = append(e.state.Tokens, &t)
	}
	e.foundHosts()
	for _, name := range e.o.Foreign {
		e.newApp(e.state.Orgs[strangers], appRequest{Name: name})
	}
}

// org is the organization of a slug, or of its alias; nil: there is none.
func (e *Emulator) org(slug string) *Org {
	if o := e.state.Orgs[slug]; o != nil {
		return o
	}
	for _, o := range e.state.Orgs {
		if o.RawSlug == slug {
			return o
		}
	}
	return nil
}

// next is a number that was never used before.
func (e *Emulator) next() uint64 {
	e.state.Seq++
	return e.state.Seq
}

// digest is made up: the same in each run, different at each call.
func (e *Emulator) digest(kind string) []byte {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], e.state.Seed)
	binary.BigEndian.PutUint64(b[8:], e.next())
	sum := sha256.Sum256(append([]byte(kind), b[:]...))
	return sum[:]
}

// newHex is a new identity of n hexadecimal digits, at most 64.
func (e *Emulator) newHex(kind string, n int) string {
	return hex.EncodeToString(e.digest(kind))[:n]
}

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz" // Crockford's

// newID is a new identity of n letters and digits, at most 32.
func (e *Emulator) newID(kind string, n int) string {
	d := e.digest(kind)
	out := make([]byte, n)
	for i := range out {
		out[i] = alphabet[d[i]&31]
	}
	return string(out)
}

// newULID is 26 characters that sort by time.
func (e *Emulator) newULID() string {
	const upper = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	ms, n := uint64(e.now().UnixMilli()), e.next()
	d := e.digest("ulid")
	out := make([]byte, 26)
	for i := 9; i >= 0; i-- {
		out[i], ms = upper[ms&31], ms>>5
	}
	for i := 17; i >= 10; i-- { // in one millisecond too the later one sorts later
		out[i], n = upper[n&31], n>>5
	}
	for i := 18; i < 26; i++ {
		out[i] = upper[d[i]&31]
	}
	return string(out)
}

// Save writes the whole state, also what is yet to happen.
func (e *Emulator) Save(w io.Writer) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.save(w)
}

func (e *Emulator) save(w io.Writer) error {
	e.runDue()
	e.state.Now = e.now()
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	if err := enc.Encode(e.state); err != nil {
		return fmt.Errorf("flyemulator: save: %w", err)
	}
	return nil
}

// Load replaces the state by one that Save wrote. Time never goes back: what
// was to happen since then has happened.
func (e *Emulator) Load(r io.Reader) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.load(r)
}

func (e *Emulator) load(r io.Reader) error {
	s := newState(e.o)
	if err := json.NewDecoder(r).Decode(s); err != nil {
		return fmt.Errorf("flyemulator: load: %w", err)
	}
	now := e.now()
	if s.Now.After(now) {
		now = s.Now
	}
	e.clock.start(now, e.o.TimeFactor)
	e.state = s
	clear(e.past)
	clear(e.listed)
	clear(e.buckets)
	e.rememberAll()
	e.runDue()
	e.arm()
	e.wake()
	return nil
}

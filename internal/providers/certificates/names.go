package certificates

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Resolver looks names up. A *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

func systemResolver() Resolver { return &net.Resolver{} }

const (
	// lookupTimeout bounds all lookups of one look at a resource.
	lookupTimeout = 2 * time.Second

	lookupsAtOnce = 8

	// A name that is not as it has to be is looked up again soon, then less
	// and less often; one that is, hardly ever.
	againFirst = 10 * time.Second
	againMost  = 10 * time.Minute
	againFine  = time.Hour
)

// answer is what is known of a name.
type answer struct {
	addresses []netip.Addr // none: it does not resolve
	trouble   string       // nobody could be asked
	next      time.Time    // when it is worth asking again
	misses    int          // in a row
}

// names remembers what names lead to, so that a look costs a lookup only when
// its time has come.
type names struct {
	resolver Resolver
	now      func() time.Time

	mu      sync.Mutex
	answers map[string]answer
}

func newNames(r Resolver, now func() time.Time) *names {
	return &names{resolver: r, now: now, answers: map[string]answer{}}
}

func (n *names) answer(host string) answer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.answers[host]
}

// hurry makes names be looked up with the next look.
func (n *names) hurry(hosts []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, host := range hosts {
		a := n.answers[host]
		a.next, a.misses = time.Time{}, 0
		n.answers[host] = a
	}
}

// look looks up the names whose time has come, and what they have to lead to.
func (n *names) look(ctx context.Context, hosts, to []string) {
	now := n.now()
	var due []string
	for _, host := range slices.Concat(hosts, to) {
		if _, err := netip.ParseAddr(host); err == nil {
			continue
		}
		if a := n.answer(host); !a.next.After(now) {
			due = append(due, host)
		}
	}
	if len(due) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var wg sync.WaitGroup
	places := make(chan struct{}, lookupsAtOnce)
	for _, host := range due {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			n.ask(ctx, host, to)
		})
	}
	wg.Wait()
}

// known is what a name leads to; it is looked up if that was never done.
func (n *names) known(ctx context.Context, host string) answer {
	if a := n.answer(host); !a.next.IsZero() {
		return a
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	n.ask(ctx, host, nil)
	return n.answer(host)
}

// ask looks up one name.
func (n *names) ask(ctx context.Context, host string, to []string) {
	name := host
	if parent, wild := strings.CutPrefix(host, "*."); wild {
		name = "forged-asks." + parent // any will do
	}
	found, err := n.resolver.LookupNetIP(ctx, "ip", strings.TrimSuffix(name, ".")+".")
	a := answer{}
	for _, ip := range found {
		a.addresses = append(a.addresses, ip.Unmap())
	}
	slices.SortFunc(a.addresses, netip.Addr.Compare)
	var told *net.DNSError
	switch {
	case err == nil:
	case errors.As(err, &told) && told.IsNotFound:
	case errors.As(err, &told) && told.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		a.trouble = "no name server has answered in time"
	default:
		a.trouble = sentence(err.Error())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.answers[host]
	fine := a.trouble == "" && len(a.addresses) > 0 && (len(to) == 0 || slices.ContainsFunc(to, func(t string) bool {
		ip, err := netip.ParseAddr(t)
		return err != nil || slices.Contains(a.addresses, ip.Unmap())
	}))
	if fine {
		a.next = n.now().Add(againFine)
	} else {
		a.misses = before.misses + 1
		a.next = n.now().Add(min(againFirst<<min(before.misses, 10), againMost))
	}
	n.answers[host] = a
}

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

// look looks up the names whose time has come, and with any of them what they
// have to lead to.
func (n *names) look(ctx context.Context, hosts, to []string) {
	now := n.now()
	due := slices.DeleteFunc(slices.Clone(hosts), func(host string) bool { return n.answer(host).next.After(now) })
	if len(due) == 0 {
		return
	}
	for _, target := range to {
		if _, err := netip.ParseAddr(target); err != nil {
			due = append(due, target)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var wg sync.WaitGroup
	places := make(chan struct{}, lookupsAtOnce)
	for _, host := range due {
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			n.ask(ctx, host)
		})
	}
	wg.Wait()
}

// judged says whether a name is as it has to be, which decides when it is worth
// asking again, and returns when that is.
func (n *names) judged(host string, fine bool) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.answers[host]
	now := n.now()
	switch {
	case a.next.After(now):
	case fine:
		a.misses, a.next = 0, now.Add(againFine)
	default:
		a.next = now.Add(min(againFirst<<min(a.misses, 10), againMost))
		a.misses++
	}
	n.answers[host] = a
	return a.next
}

// ask looks up one name.
func (n *names) ask(ctx context.Context, host string) {
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
	a.next, a.misses = n.answers[host].next, n.answers[host].misses
	n.answers[host] = a
}

package balancer

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

func newController() *controller {
	return &controller{given: map[cache.ObjectName]netip.Addr{}}
}

func service(name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
}

// Every address of the pool can be given, each once, and then there is an error.
func TestAddressesAreUnique(t *testing.T) {
	c := newController()
	seen := map[netip.Addr]string{}
	for i := range pool {
		name := fmt.Sprintf("service-%d", i)
		addr, err := c.address(service(name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if other, taken := seen[addr]; taken {
			t.Fatalf("%s and %s both have %s", name, other, addr)
		}
		if addr.String() == ingressAddress {
			t.Fatalf("%s has the Ingresses' address", name)
		}
		seen[addr] = name
	}
	if addr, err := c.address(service("one-more")); err == nil {
		t.Errorf("got %s from an empty pool", addr)
	}
}

// A few Services stay within the first range, whatever their names hash to.
func TestFirstRangeIsPreferred(t *testing.T) {
	c := newController()
	first := netip.MustParsePrefix("203.0.113.0/24")
	for i := range len(pool) / 3 {
		if addr, _ := c.address(service(fmt.Sprint(i))); !first.Contains(addr) {
			t.Fatalf("service %d got %s", i, addr)
		}
	}
}

func TestAddressFollowsFromTheName(t *testing.T) {
	before, _ := newController().address(service("web"))
	again, _ := newController().address(service("web"))
	if before != again {
		t.Errorf("created again, the Service went from %s to %s", before, again)
	}
}

func TestAddressOnRequest(t *testing.T) {
	wish := service("web")
	wish.Spec.LoadBalancerIP = "198.18.0.7"
	if got, err := newController().address(wish); err != nil || got.String() != "198.18.0.7" {
		t.Errorf("got %s, %v", got, err)
	}
}

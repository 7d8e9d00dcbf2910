package up_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func (s *atFly) testEdge(t *testing.T) {
	ctx, services := t.Context(), s.client.CoreV1().Services("default")
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: map[string]string{
			"service.fly.io/80-handlers": "http", "service.fly.io/https-handlers": "tls, http",
		}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": "shop"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "https", Port: 443, TargetPort: intstr.FromInt32(8080)}, {Name: "db", Port: 5432}},
		},
	}
	if _, err := services.Create(ctx, service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	service = await(t, s.client.CoreV1().RESTClient(), "services", "shop", func(v *corev1.Service) bool {
		return len(v.Status.LoadBalancer.Ingress) == 3 && v.Annotations["fly.io/clusterip-allocator"] == "configured" && v.Annotations["service.fly.io/sync-version"] != ""
	})
	host := service.Status.LoadBalancer.Ingress[0].Hostname
	app := strings.TrimSuffix(strings.TrimPrefix(host, "shop.svc."), ".fly.dev")
	if !strings.HasPrefix(app, "fks-default-") || !strings.Contains(service.Status.LoadBalancer.Ingress[1].IP, ":") || !strings.Contains(service.Status.LoadBalancer.Ingress[2].IP, ".") {
		t.Fatalf("status %+v", service.Status)
	}
	client := s.world(t)
	get := func(url string) (int, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return 0, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, err
	}
	answers := func(url string, want int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s answers %d", url, want), func() (bool, error) {
			got, err := get(url)
			return err == nil && got == want, fmt.Errorf("%d, %w", got, err)
		})
	}
	answers("https://"+host, http.StatusServiceUnavailable) // nothing runs
	d := deployment("shop", 1, nil)
	if _, err := s.client.AppsV1().Deployments("default").Create(ctx, d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	answers("https://"+host+"/healthz", http.StatusOK)
	answers("http://"+host, http.StatusOK)
	if status, err := get("http://" + host + ":5432"); err == nil && status == http.StatusOK {
		t.Error("a port without handlers speaks HTTP")
	}
	patch := func(body string) {
		t.Helper()
		if _, err := services.Patch(ctx, "shop", types.MergePatchType, []byte(body), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	patch(`{"metadata":{"annotations":{"sandbox.forged.dev/answer":"500"}}}`)
	answers("https://"+host, http.StatusInternalServerError)
	patch(`{"metadata":{"annotations":{"sandbox.forged.dev/answer":null}}}`)
	answers("https://"+host, http.StatusOK)

	// A name of one's own: DNS, then a certificate of the app.
	const domain = "www.example.org"
	if err := s.fly.Call(ctx, http.MethodPost, "/_emulator/dns", map[string]any{domain: map[string]any{"cname": host}}, nil); err != nil {
		t.Fatal(err)
	}
	answers("http://"+domain, http.StatusOK)
	if status, err := get("https://" + domain); err == nil {
		t.Errorf("without a certificate: %d", status)
	}
	if err := s.fly.Call(ctx, http.MethodPost, "/v1/apps/"+app+"/certificates/acme", map[string]string{"hostname": domain}, nil); err != nil {
		t.Fatal(err)
	}
	answers("https://"+domain, http.StatusOK)
	if err := services.Delete(ctx, "shop", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the addresses are given back", func() (bool, error) {
		var all struct{ IPs []any }
		err := s.fly.Call(ctx, http.MethodGet, "/v1/apps/"+app+"/ip_assignments", nil, &all)
		return err == nil && len(all.IPs) == 0, err
	})
}

// world is a client that is anywhere but in the organization's network.
func (s *atFly) world(t *testing.T) *http.Client {
	t.Helper()
	ca, err := os.ReadFile(s.fly.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	proxy, err := url.Parse(s.fly.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: bound}
}

package sandboxtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// proxyVariable is in the environment of a sandbox that has Fly Kubernetes.
const proxyVariable = "FORGED_SANDBOX_PROXY"

const (
	clusterTimeout = 3 * time.Minute
	callTimeout    = 10 * time.Second

	// Longer than any test lets pass: the emulator's clock is everybody's.
	tokenLasts = 10_000 * time.Hour
)

// Fly is the sandbox's emulator of Fly, in which Fly Kubernetes can be made.
type Fly struct {
	URL          string            // of all of Fly's services
	Token        string            // has all rights in the organization
	Organization string            // slug
	Proxy        string            // URL: leads to *.flycast, and to what the edge serves
	CA           string            // file: by which the edge's certificates are known
	Env          map[string]string // the variables that the sandbox gives to a shell
}

// FKS gives a test the emulator of the sandbox that runs, if it has Fly
// Kubernetes, or of one that is started for it. All tests share it: what they
// make has names of their own.
func FKS(t testing.TB) *Fly {
	t.Helper()
	atFly.once.Do(func() {
		if dir := os.Getenv(DirVariable); dir != "" {
			if vars, err := readEnv(dir); err == nil && vars[proxyVariable] != "" {
				atFly.dir = dir
				return
			}
		}
		atFly.dir, atFly.stop, atFly.err = start("--clusters", "0", "--fks", "2", "--fly-speed", "60")
	})
	if atFly.err != nil {
		t.Fatalf("no sandbox: %v", atFly.err)
	}
	fly, err := FlyAt(atFly.dir)
	if err != nil {
		t.Fatalf("sandbox: %v", err)
	}
	return fly
}

// FlyAt is the one of the sandbox in a directory.
func FlyAt(dir string) (*Fly, error) {
	vars, err := readEnv(dir)
	if err != nil {
		return nil, err
	}
	return &Fly{
		URL: vars["FLY_API_BASE_URL"], Token: vars["FLY_API_TOKEN"], Organization: "acme",
		Proxy: vars[proxyVariable], CA: vars["FORGED_SANDBOX_CA"], Env: vars,
	}, nil
}

// readEnv reads the variables that a sandbox gives to a shell.
func readEnv(dir string) (map[string]string, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		return nil, err
	}
	vars := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		key, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "export "), "=")
		if ok {
			vars[key] = strings.ReplaceAll(strings.Trim(value, "'"), `'\''`, "'")
		}
	}
	return vars, nil
}

// Name is one that no other test uses.
func (f *Fly) Name(t testing.TB) string {
	t.Helper()
	id := make([]byte, 4)
	if _, err := rand.Read(id); err != nil {
		t.Fatal(err)
	}
	return "t" + hex.EncodeToString(id)
}

// Call asks one of Fly's services, or the emulator's controls, and decodes the
// answer; out may be nil.
func (f *Fly) Call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, f.URL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+f.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// Graph asks Fly's GraphQL.
func (f *Fly) Graph(ctx context.Context, query string, vars map[string]any, out any) error {
	var answer struct {
		Data   json.RawMessage
		Errors []struct{ Message string }
	}
	if err := f.Call(ctx, http.MethodPost, "/graphql", map[string]any{"query": query, "variables": vars}, &answer); err != nil {
		return err
	}
	if len(answer.Errors) > 0 {
		return fmt.Errorf("graphql: %s", answer.Errors[0].Message)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer.Data, out)
}

// organization is the organization's identity.
func (f *Fly) organization(ctx context.Context) (string, error) {
	var data struct{ Organization struct{ ID string } }
	err := f.Graph(ctx, `query($s:String!){organization(slug:$s){id}}`, map[string]any{"s": f.Organization}, &data)
	return data.Organization.ID, err
}

// ClusterToken makes a token that opens the organization's clusters.
func (f *Fly) ClusterToken(ctx context.Context, lasts time.Duration) (string, error) {
	org, err := f.organization(ctx)
	if err != nil {
		return "", err
	}
	var data struct {
		CreateLimitedAccessToken struct {
			LimitedAccessToken struct{ TokenHeader string }
		}
	}
	err = f.Graph(ctx, `mutation($o:ID!,$e:String!){createLimitedAccessToken(input:{name:"test",organizationId:$o,profile:"deploy_organization",expiry:$e}){limitedAccessToken{tokenHeader}}}`,
		map[string]any{"o": org, "e": lasts.String()}, &data)
	return strings.TrimPrefix(data.CreateLimitedAccessToken.LimitedAccessToken.TokenHeader, "FlyV1 "), err
}

// FlyCluster is one of Fly Kubernetes that a test has made.
type FlyCluster struct {
	Name       string       // of the add-on
	Kubeconfig []byte       // as Fly gives it out
	App        string       // that the pods run in
	Config     *rest.Config // with a token in place of the command; no client-side rate limit
	Client     kubernetes.Interface
}

// Cluster makes a cluster, which is deleted at the end of the test.
func (f *Fly) Cluster(t testing.TB) *FlyCluster {
	t.Helper()
	name := f.Name(t)
	f.DeleteCluster(t, name)
	if err := f.CreateCluster(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return f.Open(t, name)
}

// CreateCluster asks for a cluster, and does not wait for it.
func (f *Fly) CreateCluster(ctx context.Context, name string) error {
	org, err := f.organization(ctx)
	if err != nil {
		return err
	}
	return f.Graph(ctx, `mutation($o:ID!,$n:String!){createAddOn(input:{type:kubernetes,organizationId:$o,name:$n,primaryRegion:"iad"}){addOn{id}}}`,
		map[string]any{"o": org, "n": name}, nil)
}

// Open is the way into a cluster, when it is ready.
func (f *Fly) Open(t testing.TB, name string) *FlyCluster {
	t.Helper()
	kubeconfig, failure := f.AwaitCluster(t, name)
	if failure != "" {
		t.Fatalf("cluster %s: %s", name, failure)
	}
	token, err := f.ClusterToken(t.Context(), tokenLasts)
	if err != nil {
		t.Fatal(err)
	}
	c := &FlyCluster{Name: name, Kubeconfig: kubeconfig}
	if c.Config, err = withToken(kubeconfig, token); err != nil {
		t.Fatal(err)
	}
	if c.Client, err = kubernetes.NewForConfig(c.Config); err != nil {
		t.Fatal(err)
	}
	return c
}

// withToken puts a token in the place of the command that would make one.
func withToken(kubeconfig []byte, token string) (*rest.Config, error) {
	parsed, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, err
	}
	for user := range parsed.AuthInfos {
		parsed.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: token}
	}
	config, err := clientcmd.NewDefaultClientConfig(*parsed, nil).ClientConfig()
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return config, nil
}

// DeleteCluster deletes a cluster at the end of the test, if it is there then.
// Its place is wanted by other tests.
func (f *Fly) DeleteCluster(t testing.TB, name string) {
	t.Cleanup(func() {
		err := f.Graph(context.Background(), `mutation($n:String!){deleteAddOn(input:{name:$n,provider:"kubernetes"}){deletedAddOnName}}`, map[string]any{"n": name}, nil)
		if err != nil && !strings.Contains(err.Error(), "Could not find AddOn") {
			t.Errorf("delete cluster %s: %v", name, err)
		}
	})
}

// AwaitCluster returns the kubeconfig of a cluster when it is ready, or why it
// will never be.
func (f *Fly) AwaitCluster(t testing.TB, name string) (kubeconfig []byte, failure string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clusterTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var data struct {
			AddOn struct {
				Status, ErrorMessage string
				Metadata             struct{ Kubeconfig string }
			}
		}
		if err := f.Graph(ctx, `query($n:String!){addOn(name:$n,provider:"kubernetes"){status errorMessage metadata}}`, map[string]any{"n": name}, &data); err != nil {
			t.Fatal(err)
		}
		switch data.AddOn.Status {
		case "ready":
			return []byte(data.AddOn.Metadata.Kubeconfig), ""
		case "error":
			return nil, data.AddOn.ErrorMessage
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("cluster %s is %s still", name, data.AddOn.Status)
		}
	}
}

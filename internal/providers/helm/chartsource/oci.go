package chartsource

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// Bounds of what a registry answers.
const (
	maxManifest = 4 << 20 // bytes, as registries have it
	maxTagPages = 100
)

const imageIndex = "application/vnd.oci.image.index.v1+json"

// manifest is what is needed of the manifest of a chart, or of an index of
// such.
type manifest struct {
	MediaType string       `json:"mediaType"`
	Config    descriptor   `json:"config"`
	Layers    []descriptor `json:"layers"`
	Manifests []descriptor `json:"manifests"`
}

type descriptor struct {
	MediaType    string `json:"mediaType"`
	ArtifactType string `json:"artifactType"`
	Digest       string `json:"digest"`
	Size         int64  `json:"size"`
}

// oci loads a chart from a registry. Helm's own client on top of the same
// library takes neither a context nor a limit, and logs in as whoever has last
// logged in on this machine; forge.cue says who.
func (f *fetcher) oci(ctx context.Context) (*found, []byte, error) {
	repo, err := f.open(ctx, strings.TrimPrefix(f.req.URL, "oci://"))
	if err != nil {
		return nil, nil, err
	}
	version, reference, err := f.resolve(ctx, repo)
	if err != nil {
		return nil, nil, err
	}
	what := "version " + version
	if f.req.Digest != "" {
		what = "digest " + f.req.Digest
	}
	if f.before != nil && f.req.Digest == "" {
		// A question, where an answer would count as a download.
		if d, err := repo.Resolve(ctx, reference); err == nil && d.Digest.String() == f.before.chart.Lock {
			return f.before, nil, nil
		}
	}
	lock, m, err := f.manifest(ctx, repo, reference, what)
	if err != nil {
		return nil, nil, err
	}
	if f.req.Digest != "" && lock != f.req.Digest {
		return nil, nil, invalid(f.req.ChartSource, fmt.Errorf("the registry serves %s for %s", lock, f.req.Digest), "")
	}
	archive, err := f.layer(ctx, repo, m)
	if err != nil {
		return nil, nil, err
	}
	chart, err := unpack(describe(f.req.ChartSource), archive, false)
	if err != nil {
		return nil, nil, err
	}
	chart.Lock, chart.From = lock, f.req.URL
	return &found{chart: chart}, archive, accept(f.req.ChartSource, chart)
}

// open makes a client of one repository of a registry.
func (f *fetcher) open(ctx context.Context, name string) (*remote.Repository, error) {
	repo, err := remote.NewRepository(name)
	if err != nil {
		return nil, invalid(f.req.ChartSource, errors.New("it is no address of a chart in a registry"), "")
	}
	client := &auth.Client{Client: f.http, Cache: auth.NewCache()}
	client.SetUserAgent(userAgent)
	if !f.user.isZero() && "oci://"+name == f.req.URL {
		client.Credential = auth.StaticCredential(repo.Reference.Registry, auth.Credential{
			Username: string(f.user.username.Reveal()), Password: string(f.user.password.Reveal()),
		})
	}
	repo.Client = client
	repo.TagListMaxPages = maxTagPages
	repo.MaxMetadataBytes = maxManifest
	repo.PlainHTTP, err = f.plain(ctx, repo.Reference.Host())
	return repo, err
}

// plain tells whether a registry speaks without encryption. Only one of this
// machine may, as with docker.
func (f *fetcher) plain(ctx context.Context, host string) (bool, error) {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if ip := net.ParseIP(name); name != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return false, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/v2/", http.NoBody)
	if err != nil {
		return false, invalid(f.req.ChartSource, errors.New("it is no address of a chart in a registry"), "")
	}
	resp, err := f.http.Do(r)
	if err == nil {
		_ = resp.Body.Close()
		return false, nil
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/" || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return true, nil
	}
	return false, f.failed("ask the registry", err)
}

// resolve finds the version that is asked for, and how the registry calls it.
func (f *fetcher) resolve(ctx context.Context, repo *remote.Repository) (version, reference string, err error) {
	want := f.req.Version
	if f.req.Digest != "" {
		return want, f.req.Digest, nil
	}
	if exact(want) {
		return want, tagOf(want), nil
	}
	var versions []string
	err = repo.Tags(ctx, "", func(tags []string) error {
		for _, tag := range tags {
			versions = append(versions, strings.ReplaceAll(tag, "_", "+"))
		}
		return nil
	})
	if err != nil {
		return "", "", f.failed("list its versions", err)
	}
	version, ok := choose(want, f.keep(), versions)
	if !ok {
		return "", "", invalid(f.req.ChartSource, fmt.Errorf("no version of it is %s; %s", want, newest(versions)), "")
	}
	return version, tagOf(version), nil
}

// keep is the version that is preferred to a newer one.
func (f *fetcher) keep() string {
	switch {
	case f.req.MaxAge > 0:
		return ""
	case f.before != nil:
		return f.before.chart.Version
	}
	return f.req.Keep
}

// tagOf is how Helm tags a version: a tag has no plus sign.
func tagOf(version string) string { return strings.ReplaceAll(version, "+", "_") }

// manifest reads the manifest of a chart, through an index if there is one.
// lock is the digest of what was referred to.
func (f *fetcher) manifest(ctx context.Context, repo *remote.Repository, reference, what string) (lock string, m manifest, err error) {
	read := func(reference string) (string, manifest, error) {
		var m manifest
		d, body, err := repo.FetchReference(ctx, reference)
		if err != nil {
			return "", m, f.failed("read "+what, err)
		}
		defer body.Close()
		raw, err := readAll(body, maxManifest)
		if err != nil {
			return "", m, f.failed("read "+what, err)
		}
		sum := sha256.Sum256(raw)
		digest := "sha256:" + hex.EncodeToString(sum[:])
		if strings.HasPrefix(reference, "sha256:") && digest != reference {
			return "", m, f.failed("read "+what, errors.New("what is sent is not what its digest says"))
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return "", m, invalid(f.req.ChartSource, fmt.Errorf("%s has a manifest that is no JSON", what), "")
		}
		if m.MediaType == "" {
			m.MediaType = d.MediaType
		}
		return digest, m, nil
	}
	lock, m, err = read(reference)
	if err != nil || m.MediaType != imageIndex {
		return lock, m, err
	}
	const most = 16
	for _, d := range m.Manifests[:min(most, len(m.Manifests))] {
		if d.ArtifactType != "" && d.ArtifactType != registry.ConfigMediaType {
			continue
		}
		_, inner, err := read(d.Digest)
		if err != nil {
			return "", m, err
		}
		if inner.Config.MediaType == registry.ConfigMediaType {
			return lock, inner, nil
		}
	}
	return lock, m, nil // which has no chart in it
}

// layer reads the archive that a manifest names.
func (f *fetcher) layer(ctx context.Context, repo *remote.Repository, m manifest) ([]byte, error) {
	i := slices.IndexFunc(m.Layers, func(d descriptor) bool {
		return d.MediaType == registry.ChartLayerMediaType || d.MediaType == registry.LegacyChartLayerMediaType
	})
	if i < 0 || m.Config.MediaType != registry.ConfigMediaType {
		return nil, invalid(f.req.ChartSource, errors.New("what the registry has there is no Helm chart"), "push charts with helm push")
	}
	d := m.Layers[i]
	if d.Size > maxArchive {
		return nil, invalid(f.req.ChartSource, fmt.Errorf("its archive is larger than %d MiB", maxArchive>>20), "")
	}
	_, body, err := repo.Blobs().FetchReference(ctx, d.Digest)
	if err != nil {
		return nil, f.failed("read its archive", err)
	}
	defer body.Close()
	archive, err := readAll(io.LimitReader(body, d.Size+1), maxArchive)
	if err != nil {
		return nil, f.failed("read its archive", err)
	}
	if sum := sha256.Sum256(archive); "sha256:"+hex.EncodeToString(sum[:]) != d.Digest {
		return nil, f.failed("read its archive", errors.New("what is sent is not what its digest says"))
	}
	return archive, nil
}

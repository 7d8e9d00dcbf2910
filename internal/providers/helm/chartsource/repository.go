package chartsource

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"helm.sh/helm/v3/pkg/repo"
)

// maxIndex bounds the index of a repository. The largest that are known have
// a third of it.
const maxIndex = 48 << 20 // bytes

// repository loads a chart from a chart repository.
func (f *fetcher) repository(ctx context.Context) (*found, []byte, error) {
	base := strings.TrimSuffix(f.req.URL, "/") + "/"
	header := http.Header{}
	if f.before != nil && f.before.etag != "" {
		header.Set("If-None-Match", f.before.etag)
	}
	text, answer, err := f.get(ctx, base+"index.yaml", maxIndex, header)
	if err != nil {
		return nil, nil, f.failed("read its index", err)
	}
	if text == nil && f.before != nil {
		return f.before, nil, nil // the index is what it was
	}
	entry, err := f.entryOf(text)
	if err != nil {
		return nil, nil, err
	}
	digest := strings.TrimPrefix(entry.Digest, "sha256:")
	if f.req.Digest != "" && digest != "" && "sha256:"+digest != f.req.Digest {
		return nil, nil, f.mismatch("the index has sha256:" + digest + " for version " + entry.Version)
	}
	if f.before != nil && digest != "" && f.before.chart.Lock == "sha256:"+digest {
		same := *f.before
		same.etag = answer.Get("ETag")
		return &same, nil, nil
	}
	archive, from, err := f.archive(ctx, base, entry)
	if err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(archive)
	got := hex.EncodeToString(sum[:])
	if digest != "" && digest != got {
		return nil, nil, invalid(f.req.ChartSource, fmt.Errorf("the archive of version %s has sha256:%s, and the index says sha256:%s", entry.Version, got, digest),
			"nothing of it is used; the repository has to be put right")
	}
	if f.req.Digest != "" && "sha256:"+got != f.req.Digest {
		return nil, nil, f.mismatch("the archive of version " + entry.Version + " has sha256:" + got)
	}
	chart, err := unpack(describe(f.req.ChartSource), archive, false)
	if err != nil {
		return nil, nil, err
	}
	if err := accept(f.req.ChartSource, chart); err != nil {
		return nil, nil, err
	}
	if chart.Version != entry.Version {
		return nil, nil, invalid(f.req.ChartSource, fmt.Errorf("what the index calls version %s is version %s", entry.Version, chart.Version), "")
	}
	chart.Lock, chart.From = "sha256:"+got, from
	return &found{chart: chart, etag: answer.Get("ETag")}, archive, nil
}

func (f *fetcher) mismatch(is string) error {
	return invalid(f.req.ChartSource, fmt.Errorf("%s, and forge.cue asks for %s", is, f.req.Digest), "a digest belongs to one version: change both together")
}

// entryOf finds the version that is asked for in an index.
func (f *fetcher) entryOf(text []byte) (*repo.ChartVersion, error) {
	entries, some, err := readIndex(text, f.req.Name)
	switch {
	case err != nil:
		return nil, invalid(f.req.ChartSource, errors.New("what lies at index.yaml is no index of a chart repository"), "name the address that helm repo add takes")
	case !some:
		return nil, invalid(f.req.ChartSource, errors.New("its index has no chart at all"), "name the address that helm repo add takes")
	case entries == nil:
		return nil, invalid(f.req.ChartSource, fmt.Errorf("its index has no chart %s", f.req.Name), "")
	}
	byVersion := map[string]*repo.ChartVersion{}
	var versions []string
	for _, e := range entries {
		if e == nil || e.Metadata == nil || e.Removed || byVersion[e.Version] != nil {
			continue
		}
		byVersion[e.Version] = e
		versions = append(versions, e.Version)
	}
	version, ok := choose(f.req.Version, f.keep(), versions)
	if !ok {
		return nil, invalid(f.req.ChartSource, fmt.Errorf("no version of it is %s; %s", f.req.Version, newest(versions)), "")
	}
	return byVersion[version], nil
}

// archive reads the archive that an entry of the index leads to.
func (f *fetcher) archive(ctx context.Context, base string, entry *repo.ChartVersion) (archive []byte, from string, err error) {
	if len(entry.URLs) == 0 {
		return nil, "", invalid(f.req.ChartSource, fmt.Errorf("its index has no address for version %s", entry.Version), "")
	}
	here, err := url.Parse(base)
	if err != nil {
		return nil, "", invalid(f.req.ChartSource, errors.New("its address cannot be read"), "")
	}
	there, err := here.Parse(entry.URLs[0])
	if err != nil {
		return nil, "", invalid(f.req.ChartSource, fmt.Errorf("its index has an address for version %s that cannot be read", entry.Version), "")
	}
	from = (&url.URL{Scheme: there.Scheme, Host: there.Host, Path: there.Path}).String() // no query: it may be signed
	switch {
	case there.Scheme == "oci":
		archive, err = f.fromRegistry(ctx, there, entry.Version)
		return archive, from, err
	case there.Scheme != here.Scheme && there.Scheme != "https":
		return nil, "", invalid(f.req.ChartSource, fmt.Errorf("its index leads to %s, which is not encrypted", from), "")
	}
	archive, _, err = f.get(ctx, there.String(), maxArchive, nil)
	if err != nil {
		return nil, "", f.failed("read "+from, err)
	}
	return archive, from, nil
}

// fromRegistry reads an archive that a repository keeps in a registry. The
// credentials are of the repository, so the registry gets none.
func (f *fetcher) fromRegistry(ctx context.Context, address *url.URL, version string) ([]byte, error) {
	name, reference := address.Host+address.Path, tagOf(version)
	if i := strings.LastIndexAny(name, ":@"); i > strings.LastIndex(name, "/") {
		name, reference = name[:i], name[i+1:]
		if strings.HasPrefix(reference, "sha256") || strings.HasSuffix(name, "@sha256") {
			name, reference = strings.TrimSuffix(name, "@sha256"), "sha256:"+strings.TrimPrefix(reference, "sha256:")
		}
	}
	repo, err := f.open(ctx, name)
	if err != nil {
		return nil, err
	}
	_, m, err := f.manifest(ctx, repo, reference, "version "+version)
	if err != nil {
		return nil, err
	}
	return f.layer(ctx, repo, m)
}

package helm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"

	"forged.dev/forged/internal/forge"
	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// revisionLabel marks the records that forged wrote: their version, and whose
// they are. The helm command copies labels from revision to revision, so a
// record is ours only when the version is its own.
const revisionLabel = "forged.dev/rev"

// identity is a release by name, and whose records of it are ours.
type identity struct {
	namespace, name string
	owner           string
}

// String is "release shop/app".
func (n identity) String() string { return "release " + n.namespace + "/" + n.name }

// label is the value of revisionLabel on our record of a revision.
func (n identity) label(revision string) string { return revision + "." + n.owner }

// ownerOf keeps two forgeds with one release name apart: another instance or
// another environment has other records.
func ownerOf(instance string, id forge.ID) string {
	sum := sha256.Sum256([]byte(instance + "\x00" + id.String()))
	return hex.EncodeToString(sum[:5])
}

// Labels that Helm puts on its records.
const (
	labelOwner    = "owner"
	labelName     = "name"
	labelStatus   = "status"
	labelVersion  = "version"
	labelModified = "modifiedAt"
	labelCreated  = "createdAt"
)

// requestTimeout bounds one request to Helm's storage: the SDK gives none.
const requestTimeout = 30 * time.Second

// revision is the metadata of one record of Helm's storage.
type revision struct {
	number  int
	status  release.Status
	ours    bool
	rival   bool      // it is another forged's, or another environment's
	written time.Time // by somebody's clock, second resolution
}

// terminal tells whether no action can be running on the revision.
func (r revision) terminal() bool {
	switch r.status {
	case release.StatusDeployed, release.StatusSuperseded, release.StatusFailed, release.StatusUninstalled:
		return true
	}
	return false
}

func (n identity) revisionOf(l map[string]string, created time.Time) revision {
	number, _ := strconv.Atoi(l[labelVersion])
	r := revision{
		number:  number,
		status:  release.Status(l[labelStatus]),
		ours:    l[revisionLabel] == n.label(l[labelVersion]),
		written: created,
	}
	if mark, own := strings.CutPrefix(l[revisionLabel], l[labelVersion]+"."); own && !r.ours {
		r.rival = mark != ""
	}
	// Helm copies both labels from revision to revision, over its own: what
	// is older than the record is another record's.
	for _, k := range []string{labelCreated, labelModified} {
		if s, err := strconv.ParseInt(l[k], 10, 64); err == nil && s > r.written.Unix() {
			r.written = time.Unix(s, 0)
		}
	}
	return r
}

// storeKey is a namespace of a cluster.
type storeKey struct {
	target    forge.Target
	namespace string
}

// store watches the metadata of Helm's records in one namespace of a cluster:
// who may look at the Secrets of one need not be let into all. Their content is
// read only when an action needs it.
type store struct {
	cluster  *kubernetes.Cluster
	informer cache.SharedIndexInformer
	once     sync.Once
	failed   atomic.Pointer[error] // why the watch is not up, as long as it is not
}

const byRelease = "release"

var secretsResource = corev1.SchemeGroupVersion.WithResource("secrets")

func newStore(c *kubernetes.Cluster, namespace string, changed func(namespace, name string)) *store {
	inf := metadatainformer.NewFilteredMetadataInformer(c.Metadata(), secretsResource, namespace, 0,
		cache.Indexers{byRelease: func(obj any) ([]string, error) {
			m := obj.(*metav1.PartialObjectMetadata)
			return []string{m.Namespace + "/" + m.Labels[labelName]}, nil
		}},
		func(o *metav1.ListOptions) { o.LabelSelector = labelOwner + "=helm" }).Informer()
	// Neither call fails before the informer is started.
	_ = inf.SetTransform(func(obj any) (any, error) {
		m, ok := obj.(*metav1.PartialObjectMetadata)
		if !ok {
			return obj, nil
		}
		m.ManagedFields, m.Annotations, m.OwnerReferences = nil, nil, nil
		return m, nil
	})
	tell := func(obj any) {
		if t, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = t.Obj
		}
		if m, ok := obj.(*metav1.PartialObjectMetadata); ok {
			changed(m.Namespace, m.Labels[labelName])
		}
	}
	_, _ = inf.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(obj any, initial bool) {
			if !initial {
				tell(obj)
			}
		},
		UpdateFunc: func(_, obj any) { tell(obj) },
		DeleteFunc: tell,
	})
	s := &store{cluster: c, informer: inf}
	_ = inf.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		err = kubernetes.Classify("watch Helm records of "+c.Target().String(), kubernetes.Ref{}, err)
		s.failed.Store(&err)
	})
	return s
}

// syncPoll is how often a start looks whether the watch is up.
const syncPoll = 10 * time.Millisecond

// up starts the watch at first use and waits until it is complete. A watch
// that is refused is an error at once, not a wait.
func (s *store) up(ctx context.Context) error {
	s.once.Do(func() { s.cluster.Go(s.informer.RunWithContext) })
	return untilSynced(ctx, s.cluster, s.informer, &s.failed, "watch Helm records of "+s.cluster.Target().String())
}

// watched are the revisions of a release as the watch knows them.
func (s *store) watched(ctx context.Context, n identity) ([]revision, error) {
	if err := s.up(ctx); err != nil {
		return nil, err
	}
	objs, err := s.informer.GetIndexer().ByIndex(byRelease, n.namespace+"/"+n.name)
	if err != nil {
		return nil, reconcile.Errorf(reconcile.Internal, "look up Helm records", "%v", err)
	}
	revs := make([]revision, 0, len(objs))
	for _, o := range objs {
		m := o.(*metav1.PartialObjectMetadata)
		revs = append(revs, n.revisionOf(m.Labels, m.CreationTimestamp.Time))
	}
	return revs, nil
}

// certain are the revisions of a release as the API server knows them now.
// Watches of different resources keep no order between them, so this is asked
// before anything is called drift or done.
//
// Whatever Helm does to a release, it first writes the newest record or makes
// the next one. Reading these two by name proves what the watch says of the
// others, in a millisecond; a consistent listing makes the API server wait
// until its cache of all Secrets has caught up, a tenth of a second.
func (s *store) certain(ctx context.Context, n identity) ([]revision, error) {
	revs, err := s.watched(ctx, n)
	if err != nil {
		return nil, err
	}
	newest, some := newestOf(revs)
	g, gctx := errgroup.WithContext(ctx)
	var now, next *revision
	if some {
		g.Go(func() (err error) { now, err = s.read(gctx, n, newest.number); return err })
	}
	g.Go(func() (err error) { next, err = s.read(gctx, n, newest.number+1); return err })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if next != nil || some && now == nil {
		return s.listed(ctx, n) // the watch is behind
	}
	if some {
		revs[slices.IndexFunc(revs, func(r revision) bool { return r.number == newest.number })] = *now
	}
	return revs, nil
}

// read is the metadata of one record, nil when there is none.
func (s *store) read(ctx context.Context, n identity, number int) (*revision, error) {
	m, err := s.cluster.Metadata().Resource(secretsResource).Namespace(n.namespace).Get(ctx, recordName(n.name, number), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, kubernetes.Classify("read Helm record of release "+n.namespace+"/"+n.name, kubernetes.Ref{}, err)
	}
	r := n.revisionOf(m.Labels, m.CreationTimestamp.Time)
	return &r, nil
}

// recordName is how Helm 3 names its records.
func recordName(name string, number int) string {
	return fmt.Sprintf("%s.%s.v%d", storage.HelmStorageType, name, number)
}

func (s *store) listed(ctx context.Context, n identity) ([]revision, error) {
	sel := labels.Set{labelOwner: "helm", labelName: n.name}.String()
	list, err := s.cluster.Metadata().Resource(secretsResource).Namespace(n.namespace).List(ctx, metav1.ListOptions{LabelSelector: sel})
	if err != nil {
		return nil, kubernetes.Classify("list Helm records of release "+n.namespace+"/"+n.name, kubernetes.Ref{}, err)
	}
	out := make([]revision, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, n.revisionOf(list.Items[i].Labels, list.Items[i].CreationTimestamp.Time))
	}
	return out, nil
}

func newestOf(revs []revision) (newest revision, ok bool) {
	for _, r := range revs {
		if r.number > newest.number {
			newest, ok = r, true
		}
	}
	return newest, ok
}

// records opens Helm's storage of one namespace for one action on a release
// whose revisions are known for certain.
func (s *store) records(ctx context.Context, n identity, revs []revision) *storage.Storage {
	f := &fencedSecrets{
		SecretInterface: s.cluster.Client().CoreV1().Secrets(n.namespace),
		ctx:             ctx, known: map[string]*corev1.Secret{},
	}
	for _, r := range revs {
		f.known[recordName(n.name, r.number)] = nil
	}
	st := storage.Init(driver.NewSecrets(f))
	st.MaxHistory = maxHistory
	return st
}

// fencedSecrets is what Helm's driver keeps its records in during one action.
// It makes every update a compare-and-swap on what the action read or wrote
// before, bounds each request, and reads each record once: the SDK lists all
// of them up to three times in an action.
type fencedSecrets struct {
	v1.SecretInterface
	ctx   context.Context           // of the action; the driver passes context.Background
	known map[string]*corev1.Secret // by name, nil until read
}

func (f *fencedSecrets) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(f.ctx, requestTimeout)
}

func (f *fencedSecrets) saw(s *corev1.Secret, err error) (*corev1.Secret, error) {
	if err != nil {
		return nil, err
	}
	f.known[s.Name] = s
	return s.DeepCopy(), nil
}

// Create implements v1.SecretInterface.
func (f *fencedSecrets) Create(_ context.Context, s *corev1.Secret, o metav1.CreateOptions) (*corev1.Secret, error) {
	ctx, cancel := f.bounded()
	defer cancel()
	return f.saw(f.SecretInterface.Create(ctx, s, o))
}

// Get implements v1.SecretInterface.
func (f *fencedSecrets) Get(_ context.Context, name string, o metav1.GetOptions) (*corev1.Secret, error) {
	if s := f.known[name]; s != nil {
		return s.DeepCopy(), nil
	}
	ctx, cancel := f.bounded()
	defer cancel()
	return f.saw(f.SecretInterface.Get(ctx, name, o))
}

// Update implements v1.SecretInterface.
func (f *fencedSecrets) Update(_ context.Context, s *corev1.Secret, o metav1.UpdateOptions) (*corev1.Secret, error) {
	if known := f.known[s.Name]; known != nil {
		s.ResourceVersion = known.ResourceVersion
	}
	ctx, cancel := f.bounded()
	defer cancel()
	return f.saw(f.SecretInterface.Update(ctx, s, o))
}

// List implements v1.SecretInterface: the known records that the selector
// takes.
func (f *fencedSecrets) List(ctx context.Context, o metav1.ListOptions) (*corev1.SecretList, error) {
	selector, err := labels.Parse(o.LabelSelector)
	if err != nil {
		return nil, err
	}
	list := &corev1.SecretList{}
	for _, name := range slices.Sorted(maps.Keys(f.known)) {
		s, err := f.Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, err
		case selector.Matches(labels.Set(s.Labels)):
			list.Items = append(list.Items, *s)
		}
	}
	return list, nil
}

// Delete implements v1.SecretInterface.
func (f *fencedSecrets) Delete(_ context.Context, name string, o metav1.DeleteOptions) error {
	ctx, cancel := f.bounded()
	defer cancel()
	err := f.SecretInterface.Delete(ctx, name, o)
	if err == nil {
		delete(f.known, name)
	}
	return err
}

package helm

import (
	"context"
	"strconv"
	"sync"
	"time"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"

	"forged.dev/forged/internal/providers/kubernetes"
	"forged.dev/forged/internal/reconcile"
)

// revisionLabel marks the records that forged wrote. The helm command copies
// labels from revision to revision, so a record is ours only when the label
// equals its version.
const revisionLabel = "forged.dev/rev"

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
	written time.Time // second resolution
}

// terminal tells whether no action can be running on the revision.
func (r revision) terminal() bool {
	switch r.status {
	case release.StatusDeployed, release.StatusSuperseded, release.StatusFailed, release.StatusUninstalled:
		return true
	}
	return false
}

func revisionOf(l map[string]string, created time.Time) revision {
	n, _ := strconv.Atoi(l[labelVersion])
	r := revision{
		number:  n,
		status:  release.Status(l[labelStatus]),
		ours:    l[revisionLabel] != "" && l[revisionLabel] == l[labelVersion],
		written: created,
	}
	for _, k := range []string{labelCreated, labelModified} {
		if s, err := strconv.ParseInt(l[k], 10, 64); err == nil {
			r.written = time.Unix(s, 0)
		}
	}
	return r
}

// store watches the metadata of Helm's records in one cluster. Their content
// is read only when an action needs it.
type store struct {
	cluster  *kubernetes.Cluster
	informer cache.SharedIndexInformer
	once     sync.Once
}

const byRelease = "release"

var secretsResource = corev1.SchemeGroupVersion.WithResource("secrets")

func newStore(c *kubernetes.Cluster, changed func(namespace, name string)) *store {
	inf := metadatainformer.NewFilteredMetadataInformer(c.Metadata(), secretsResource, metav1.NamespaceAll, 0,
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
	return &store{cluster: c, informer: inf}
}

// watched is the newest revision of a release as the watch knows it; ok is
// false when there is none. The first call starts the watch.
func (s *store) watched(ctx context.Context, namespace, name string) (newest revision, ok bool, err error) {
	s.once.Do(func() { go s.informer.RunWithContext(s.cluster.Context()) })
	if !cache.WaitForCacheSync(ctx.Done(), s.informer.HasSynced) {
		return revision{}, false, reconcile.Errorf(reconcile.Unavailable, "watch Helm releases of "+s.cluster.Target().String(), "%v", context.Cause(ctx))
	}
	objs, err := s.informer.GetIndexer().ByIndex(byRelease, namespace+"/"+name)
	if err != nil {
		return revision{}, false, err
	}
	for _, o := range objs {
		m := o.(*metav1.PartialObjectMetadata)
		if r := revisionOf(m.Labels, m.CreationTimestamp.Time); r.number > newest.number {
			newest, ok = r, true
		}
	}
	return newest, ok, nil
}

// listed asks the API server itself for all revisions of a release. Watches
// of different resources keep no order between them, so this one listing
// tells for certain whether Helm is at work before anything is called drift.
func (s *store) listed(ctx context.Context, namespace, name string) ([]revision, error) {
	sel := labels.Set{labelOwner: "helm", labelName: name}.String()
	list, err := s.cluster.Metadata().Resource(secretsResource).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: sel})
	if err != nil {
		return nil, kubernetes.Classify("list Helm records of release "+namespace+"/"+name, kubernetes.Ref{}, err)
	}
	out := make([]revision, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, revisionOf(list.Items[i].Labels, list.Items[i].CreationTimestamp.Time))
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

// records opens Helm's storage of one namespace for one action.
func (s *store) records(ctx context.Context, namespace string) *storage.Storage {
	d := driver.NewSecrets(&fencedSecrets{
		SecretInterface: s.cluster.Client().CoreV1().Secrets(namespace),
		ctx:             ctx,
		versions:        map[string]string{},
	})
	st := storage.Init(d)
	st.MaxHistory = maxHistory
	return st
}

// fencedSecrets makes every update by Helm's driver a compare-and-swap on
// what the same action read or wrote before, and bounds each request.
type fencedSecrets struct {
	v1.SecretInterface
	ctx      context.Context // of the action; the driver passes context.Background
	versions map[string]string
}

func (f *fencedSecrets) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(f.ctx, requestTimeout)
}

func (f *fencedSecrets) saw(s *corev1.Secret, err error) (*corev1.Secret, error) {
	if err == nil {
		f.versions[s.Name] = s.ResourceVersion
	}
	return s, err
}

func (f *fencedSecrets) Create(_ context.Context, s *corev1.Secret, o metav1.CreateOptions) (*corev1.Secret, error) {
	ctx, cancel := f.bounded()
	defer cancel()
	return f.saw(f.SecretInterface.Create(ctx, s, o))
}

func (f *fencedSecrets) Get(_ context.Context, name string, o metav1.GetOptions) (*corev1.Secret, error) {
	ctx, cancel := f.bounded()
	defer cancel()
	return f.saw(f.SecretInterface.Get(ctx, name, o))
}

func (f *fencedSecrets) Update(_ context.Context, s *corev1.Secret, o metav1.UpdateOptions) (*corev1.Secret, error) {
	ctx, cancel := f.bounded()
	defer cancel()
	s.ResourceVersion = f.versions[s.Name]
	return f.saw(f.SecretInterface.Update(ctx, s, o))
}

func (f *fencedSecrets) List(_ context.Context, o metav1.ListOptions) (*corev1.SecretList, error) {
	ctx, cancel := f.bounded()
	defer cancel()
	l, err := f.SecretInterface.List(ctx, o)
	if err == nil {
		for i := range l.Items {
			_, _ = f.saw(&l.Items[i], nil)
		}
	}
	return l, err
}

func (f *fencedSecrets) Delete(_ context.Context, name string, o metav1.DeleteOptions) error {
	ctx, cancel := f.bounded()
	defer cancel()
	return f.SecretInterface.Delete(ctx, name, o)
}

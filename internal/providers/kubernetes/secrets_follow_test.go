package kubernetes

import (
	"context"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"forged.dev/forged/internal/forge"
)

// TestSourceAfterAnOutage: what a Secret held before the watch was lost is not
// what it holds; that is known when it has been listed again.
func TestSourceAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ref := secretRef("shop", "theirs")
		object := func(value string) *corev1.Secret {
			return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "theirs", Namespace: "shop", ResourceVersion: "1"}, Data: map[string][]byte{"url": []byte(value)}}
		}
		var lost atomic.Bool
		lists := make(chan string) // what the next of them says
		watches := make(chan *kwatch.FakeWatcher, 100)
		client := fake.NewClientset()
		client.PrependReactor("list", "secrets", func(clienttesting.Action) (bool, runtime.Object, error) {
			value := <-lists
			return true, &corev1.SecretList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []corev1.Secret{*object(value)}}, nil
		})
		client.PrependWatchReactor("secrets", func(a clienttesting.Action) (bool, kwatch.Interface, error) {
			o := a.(clienttesting.WatchActionImpl).ListOptions
			if o.SendInitialEvents != nil {
				return true, nil, apierrors.NewBadRequest("an old server")
			}
			if lost.Load() {
				return true, nil, syscall.ECONNREFUSED
			}
			w := kwatch.NewFake()
			watches <- w
			return true, w, nil
		})
		clusters := NewClusters(Options{})
		defer clusters.Close()
		ctx, cancel := context.WithCancel(t.Context())
		c := &Cluster{clusters: clusters, client: client, ctx: ctx, log: slog.New(slog.DiscardHandler), followed: map[Ref]*followed{}}
		f := &followed{c: c, ref: ref, moved: make(chan struct{}), users: map[forge.ID]struct{}{}}
		c.followed[ref] = f
		c.background.Go(func() { f.run(ctx) })
		defer c.background.Wait()
		defer cancel()
		holds := func() string {
			values, _, err := c.source(t.Context(), ref)
			if err != nil {
				return "unknown"
			}
			url := values["url"]
			return string(url.Reveal())
		}

		lists <- "old"
		synctest.Wait()
		if got := holds(); got != "old" {
			t.Fatalf("at the start: %s", got)
		}
		w := <-watches
		time.Sleep(time.Hour)
		lost.Store(true)
		w.Stop()
		time.Sleep(time.Minute)
		if got := holds(); got != "unknown" {
			t.Errorf("without a watch: %s", got)
		}
		lost.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := holds(); got != "unknown" {
			t.Errorf("before it is listed: %s", got)
		}
		select {
		case <-watches:
			t.Error("it goes on where it was")
		default:
		}
		lists <- "new"
		synctest.Wait()
		if got := holds(); got != "new" {
			t.Errorf("at the end: %s", got)
		}
		(<-watches).Modify(object("newer"))
		synctest.Wait()
		if got := holds(); got != "newer" {
			t.Errorf("after a change: %s", got)
		}

		// Between the answer of a list and what is made of it.
		f.outcome("watch", errCut)
		f.outcome("list", nil)
		answer := make(chan string, 1)
		go func() { answer <- holds() }()
		synctest.Wait()
		if len(answer) > 0 {
			t.Errorf("handed out before it was known: %s", <-answer)
		}
		if err := f.Replace([]any{object("newest")}, ""); err != nil {
			t.Error(err)
		}
		if got := <-answer; got != "newest" {
			t.Errorf("after the list: %s", got)
		}
	})
}

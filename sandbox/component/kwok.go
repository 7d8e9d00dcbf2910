//go:build !race

package component

import (
	"bytes"
	"context"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/kwok/pkg/apis/internalversion"
	"sigs.k8s.io/kwok/pkg/client/clientset/versioned"
	kwokconfig "sigs.k8s.io/kwok/pkg/config"
	"sigs.k8s.io/kwok/pkg/kwok/controllers"
	"sigs.k8s.io/kwok/pkg/log"
	"sigs.k8s.io/kwok/pkg/utils/client"

	"forged.dev/forged/sandbox/process"
)

// stages says how nodes and pods move through their lives.
//
//go:embed stages.yaml
var stages []byte

// kwok plays the kubelet of every node. Its controllers are driven as a library:
// kwok's own command cannot share a program with kube-apiserver, because both
// define a flag named version.
func kwok(child *process.Child, args []string) error {
	flags := flag.NewFlagSet("kwok", flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "file that leads to the API server")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx = log.NewContext(ctx, log.NewLogger(os.Stderr, log.LevelInfo))

	local, err := parseStages(stages)
	if err != nil {
		return fmt.Errorf("stages: %w", err)
	}
	set, err := client.NewClientset("", *kubeconfig)
	if err != nil {
		return err
	}
	config, err := set.ToRESTConfig()
	if err != nil {
		return err
	}
	dynamicClient, err := set.ToDynamicClient()
	if err != nil {
		return err
	}
	mapper, err := set.ToRESTMapper()
	if err != nil {
		return err
	}
	restClient, err := rest.RESTClientFor(config)
	if err != nil {
		return err
	}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	typedKwok, err := versioned.NewForConfig(config)
	if err != nil {
		return err
	}
	controller, err := controllers.NewController(controllers.Config{
		Clock:                      clock.RealClock{},
		DynamicClient:              dynamicClient,
		RESTClient:                 restClient,
		RESTMapper:                 mapper,
		ImpersonatingDynamicClient: set.ToImpersonatingDynamicClient(),
		ImpersonatingTypedClient:   set.ToImpersonatingTypedClient(),
		TypedClient:                typed,
		TypedKwokClient:            typedKwok,
		ManageAllNodes:             true,
		CIDR:                       "10.244.0.0/16", // for nodes without a range of their own
		LocalStages:                local,
		PodPlayStageParallelism:    4,
		NodePlayStageParallelism:   2,
		NodeLeaseParallelism:       2,
		NodeLeaseDurationSeconds:   40, // as kubelets have it
		PodsOnNodeSyncParallelism:  1,
		// The holder of the nodes' leases. A name of its own for each run would
		// make a run on kept data wait until the leases of the last one expire.
		ID: "kwok",
	})
	if err != nil {
		return err
	}
	if err := controller.Start(ctx); err != nil {
		return err
	}
	child.Ready()
	<-ctx.Done()
	return nil
}

// parseStages reads YAML documents and groups the stages by what they apply to.
func parseStages(data []byte) (map[internalversion.StageResourceRef][]*internalversion.Stage, error) {
	grouped := map[internalversion.StageResourceRef][]*internalversion.Stage{}
	for _, doc := range bytes.Split(data, []byte("\n---\n")) {
		stage, err := kwokconfig.UnmarshalWithType[*internalversion.Stage](doc)
		if err != nil {
			return nil, err
		}
		ref := stage.Spec.ResourceRef
		grouped[ref] = append(grouped[ref], stage)
	}
	return grouped, nil
}

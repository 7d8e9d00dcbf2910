package kubernetes

import (
	"context"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Occupant is an environment that some forged keeps in a cluster.
type Occupant struct{ Instance, Environment, Namespace string }

// Occupants lists those of a cluster, by their inventories, as the API server has
// them now. What nobody keeps with forged is not among them.
func Occupants(ctx context.Context, client kubernetes.Interface) ([]Occupant, error) {
	list, err := client.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{LabelSelector: labelInventory})
	if err != nil {
		return nil, Classify("list the inventories in all namespaces", Ref{}, err)
	}
	all := make([]Occupant, 0, len(list.Items))
	for i := range list.Items {
		m := &list.Items[i]
		if name, ok := strings.CutPrefix(m.Name, inventoryPrefix); ok {
			all = append(all, Occupant{m.Labels[labelInventory], name, m.Namespace})
		}
	}
	return all, nil
}

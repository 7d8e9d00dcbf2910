package compile

import "forged.dev/forged/internal/forge"

// Storage classes of Fly Kubernetes. A disk of the one goes with its claim, one
// of the other stays: Fly docs, Using volumes with FKS.
const (
	classFly       = "flyio-volume"
	classFlyRetain = "flyio-volume-retain"
)

// Access modes of volumes.
const (
	accessNode = "ReadWriteOnce"
	accessPod  = "ReadWriteOncePod"
)

func (b builder) onFKS() bool { return b.env.Platform.Kind == forge.PlatformFKS }

// deploys tells whether databases in the cluster are Deployments, each on a
// claim of its own. StatefulSets are not documented for Fly Kubernetes.
func (b builder) deploys() bool { return b.onFKS() && !b.env.Platform.StatefulSets }

// storageClass is a volume's own, or the platform's; retain tells whether the
// volume outlives its claim.
func (b builder) storageClass(own string, retain bool) string {
	switch {
	case own != "":
		return own
	case b.env.Platform.StorageClass != "" || !b.onFKS():
		return b.env.Platform.StorageClass
	case retain:
		return classFlyRetain
	default:
		return classFly
	}
}

// dataClaimName is what a StatefulSet calls its claim too, so that the data of
// a service is in the same place whichever kind of object runs it.
func dataClaimName(release string) string { return "data-" + release + "-0" }

func (b builder) storageValues(release, size, class string) map[string]any {
	values := map[string]any{"size": size, "className": b.storageClass(class, true)}
	if b.onFKS() {
		values["access"] = accessPod // there is no other
	}
	if b.deploys() {
		values["claim"] = dataClaimName(release)
	}
	return values
}

// workloadValues are how a server with data runs. They are written only where
// they are not the usual ones: see addOptional.
func (b builder) workloadValues(values map[string]any) {
	if b.deploys() {
		values["workload"] = "Deployment"
	}
	b.volumeValues(values)
}

// volumeValues are which volumes pods have beside their data.
func (b builder) volumeValues(values map[string]any) {
	if b.onFKS() { // it has no emptyDir
		values["temporaryVolumes"] = false
	}
}

// claim is the disk of a service. It is no release's, and stays when nobody asks
// for it any more. It bears the labels that a StatefulSet gives to its claims.
func (c *clusterBuilder) claim(part, chart, release, component, size, class string) []forge.ID {
	if !c.deploys() {
		return nil
	}
	return []forge.ID{c.add("", c.resource(forge.KindClaim, part+"-data", forge.ClaimSpec{
		Namespace: c.at.namespace, Name: dataClaimName(release),
		Labels: mergeLabels(c.labels(), c.selector(chart, release, component), map[string]string{"forged.dev/data": part}),
		Size:   size, StorageClass: c.storageClass(class, true), Access: accessPod, Retain: true,
	}, c.namespace))}
}

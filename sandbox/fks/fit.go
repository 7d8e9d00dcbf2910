package fks

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// fit takes away from a pod what Fly's documentation says its Kubernetes does
// not support, and returns the names of the fields. What the API server sets in
// every pod (imagePullPolicy, terminationMessagePath, resizePolicy and the like)
// stays: nobody has asked for it.
func fit(pod *corev1.PodSpec) (dropped []string) {
	drop := func(there bool, field string, clear func()) {
		if there {
			dropped = append(dropped, field)
			clear()
		}
	}
	drop(len(pod.InitContainers) > 0, "initContainers", func() { pod.InitContainers = nil })
	drop(len(pod.Containers) > 1, "containers[1]", func() { pod.Containers = pod.Containers[:1] })
	drop(len(pod.NodeSelector) > 0, "nodeSelector", func() { pod.NodeSelector = nil })
	drop(pod.Affinity != nil, "affinity", func() { pod.Affinity = nil })
	drop(len(pod.TopologySpreadConstraints) > 0, "topologySpreadConstraints", func() { pod.TopologySpreadConstraints = nil })
	gone := map[string]bool{}
	var kept []corev1.Volume
	for i, volume := range pod.Volumes {
		why := unsupportedVolume(volume)
		if why == "" && onDisk(volume) && slices.ContainsFunc(kept, onDisk) {
			why = "(a second volume)"
		}
		if why == "" {
			kept = append(kept, volume)
			continue
		}
		gone[volume.Name] = true
		dropped = append(dropped, fmt.Sprintf("volumes[%d].%s", i, why))
	}
	pod.Volumes = kept
	for i := range pod.Containers {
		for _, field := range fitContainer(&pod.Containers[i], gone) {
			dropped = append(dropped, fmt.Sprintf("containers[%d].%s", i, field))
		}
	}
	return dropped
}

// fitContainer does so for a container. Mounts go with their volumes.
func fitContainer(c *corev1.Container, gone map[string]bool) (dropped []string) {
	drop := func(there bool, field string, clear func()) {
		if there {
			dropped = append(dropped, field)
			clear()
		}
	}
	c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return gone[m.Name] })
	drop(c.WorkingDir != "", "workingDir", func() { c.WorkingDir = "" })
	drop(len(c.Ports) > 0, "ports", func() { c.Ports = nil })
	drop(c.LivenessProbe != nil, "livenessProbe", func() { c.LivenessProbe = nil })
	drop(c.ReadinessProbe != nil, "readinessProbe", func() { c.ReadinessProbe = nil })
	drop(c.StartupProbe != nil, "startupProbe", func() { c.StartupProbe = nil })
	drop(c.Lifecycle != nil, "lifecycle", func() { c.Lifecycle = nil })
	drop(c.SecurityContext != nil, "securityContext", func() { c.SecurityContext = nil })
	drop(len(c.VolumeDevices) > 0, "volumeDevices", func() { c.VolumeDevices = nil })
	drop(c.Stdin, "stdin", func() { c.Stdin = false })
	drop(c.StdinOnce, "stdinOnce", func() { c.StdinOnce = false })
	drop(c.TTY, "tty", func() { c.TTY = false })
	c.Env = slices.DeleteFunc(slices.Clone(c.Env), func(env corev1.EnvVar) bool {
		switch from := env.ValueFrom; {
		case from == nil:
			return false
		case from.FieldRef != nil:
			dropped = append(dropped, fmt.Sprintf("env[%s].valueFrom.fieldRef", env.Name))
		case from.ResourceFieldRef != nil:
			dropped = append(dropped, fmt.Sprintf("env[%s].valueFrom.resourceFieldRef", env.Name))
		default:
			return false
		}
		return true
	})
	return dropped
}

// unsupportedVolume is the source that Fly has nothing for.
func unsupportedVolume(v corev1.Volume) string {
	switch {
	case v.EmptyDir != nil:
		return "emptyDir"
	case v.HostPath != nil:
		return "hostPath"
	case v.NFS != nil:
		return "nfs"
	case v.DownwardAPI != nil:
		return "downwardAPI"
	}
	return ""
}

// onDisk tells whether a volume is one of Fly's, of which a pod has one.
func onDisk(v corev1.Volume) bool { return v.PersistentVolumeClaim != nil || v.Ephemeral != nil }

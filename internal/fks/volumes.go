package fks

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// claims tells whether an ephemeral volume has a claim without a class.
func claims(_ *fitting, m match) bool { return m.up(1) != nil && empty(m.value) }

// forOne tells whether a claim is for one node only.
func forOne(_ *fitting, m match) bool {
	modes, _ := m.value.([]any)
	return !slices.Contains(modes, any("ReadWriteMany")) && !slices.Contains(modes, any("ReadOnlyMany"))
}

func forOnePod(_ *fitting, m match) string {
	m.set([]any{"ReadWriteOncePod"})
	return "- ReadWriteOncePod"
}

func moreThanRegion(_ *fitting, m match) bool {
	selector, ok := m.value.(map[string]any)
	labels := below(selector, "matchLabels")
	_, region := labels["region"]
	return !ok || !empty(selector["matchExpressions"]) || len(labels) > 1 || len(labels) == 1 && !region
}

func isEmptyDir(_ *fitting, m match) bool {
	volume, _ := m.value.(map[string]any)
	_, ok := volume["emptyDir"]
	return ok
}

// mounts are where a pod has a volume.
func mounts(o *object, volume string) []string {
	var paths []string
	for _, list := range []string{"containers", "initContainers"} {
		for _, c := range items(podOf(o), list) {
			for _, mount := range items(c, "volumeMounts") {
				if text(mount, "name") == volume {
					paths = append(paths, text(mount, "mountPath"))
				}
			}
		}
	}
	return paths
}

// passing tells whether what is in a directory is of use to one run of a
// program only.
func passing(path string) bool {
	for _, dir := range []string{"/tmp", "/var/tmp", "/run", "/var/run", "/dev/shm"} {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == "tmp" || strings.HasSuffix(part, "cache") {
			return true
		}
	}
	return false
}

// scratch tells whether a volume is an emptyDir that the machine's own file
// system replaces.
func scratch(f *fitting, m match) bool {
	volume, _ := m.value.(map[string]any)
	return isEmptyDir(f, m) && !slices.ContainsFunc(mounts(m.of, text(volume, "name")), func(path string) bool { return !passing(path) })
}

// unmount takes a volume out of the containers.
func unmount(_ *fitting, m match) string {
	volume, _ := m.value.(map[string]any)
	for _, list := range []string{"containers", "initContainers"} {
		for _, c := range items(podOf(m.of), list) {
			all, ok := c["volumeMounts"].([]any)
			if !ok {
				continue
			}
			for i, item := range all {
				if mount, ok := item.(map[string]any); ok && text(mount, "name") == text(volume, "name") {
					all[i] = removed{}
				}
			}
		}
	}
	return ""
}

// disk tells whether a volume of a pod is a disk.
func disk(volume map[string]any) bool {
	return volume["persistentVolumeClaim"] != nil || volume["ephemeral"] != nil
}

// disks is how many volumes of a pod are disks.
func disks(o *object) int {
	n := 0
	for _, volume := range items(podOf(o), "volumes") {
		if disk(volume) {
			n++
		}
	}
	if o.kind == "StatefulSet.apps" {
		n += len(items(below(o.fields, "spec"), "volumeClaimTemplates"))
	}
	return n
}

// onlyDisk tells whether a volume is an emptyDir that could be the one disk of
// its pod.
func onlyDisk(f *fitting, m match) bool {
	directories := 0
	for _, volume := range items(podOf(m.of), "volumes") {
		if isEmptyDir(f, match{value: volume}) {
			directories++
		}
	}
	return isEmptyDir(f, m) && directories == 1 && disks(m.of) == 0
}

// becomesVolume turns an emptyDir into a volume that lives as long.
func becomesVolume(_ *fitting, m match) string {
	volume, _ := m.value.(map[string]any)
	size := "1Gi"
	if q, err := resource.ParseQuantity(fmt.Sprint(below(volume, "emptyDir")["sizeLimit"])); err == nil && q.Sign() > 0 {
		const gigabyte = 1 << 30 // volumes have whole ones
		size = fmt.Sprintf("%dGi", (q.Value()+gigabyte-1)/gigabyte)
	}
	delete(volume, "emptyDir")
	volume["ephemeral"] = map[string]any{"volumeClaimTemplate": map[string]any{"spec": map[string]any{
		"accessModes":      []any{"ReadWriteOncePod"},
		"storageClassName": "flyio-volume",
		"resources":        map[string]any{"requests": map[string]any{"storage": size}},
	}}}
	return shown(m, volume)
}

func twoDisks(_ *fitting, m match) bool { return disks(m.of) > 1 }

// mountsDisk tells whether what is mounted is a disk.
func mountsDisk(_ *fitting, m match) bool {
	name := text(m.up(1), "name")
	if slices.ContainsFunc(items(podOf(m.of), "volumes"), func(v map[string]any) bool { return text(v, "name") == name && disk(v) }) {
		return true
	}
	return m.of.kind == "StatefulSet.apps" && slices.ContainsFunc(items(below(m.of.fields, "spec"), "volumeClaimTemplates"), func(v map[string]any) bool {
		return text(below(v, "metadata"), "name") == name
	})
}

func sharesClaim(_ *fitting, m match) bool {
	return slices.ContainsFunc(items(podOf(m.of), "volumes"), func(v map[string]any) bool { return v["persistentVolumeClaim"] != nil })
}

func handsOver(f *fitting, m match) bool {
	strategy, _ := m.value.(map[string]any)
	return sharesClaim(f, m) && text(strategy, "type") != "Recreate"
}

func recreates(_ *fitting, m match) string {
	m.set(map[string]any{"type": "Recreate"})
	return "type: Recreate"
}

package fks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"forged.dev/forged/internal/flyemulator"
	"forged.dev/forged/sandbox/volume"
)

// Storage as Fly's documentation of its Kubernetes has it.
const (
	provisioner     = "volume.csi.fly.io"
	classDelete     = "flyio-volume"
	classRetain     = "flyio-volume-retain"
	volumeApp       = "fly.io/app"
	volumeRegion    = "fly.io/region"
	volumeID        = "volume.fly.io/id"
	regionLabel     = "region"
	maxVolume       = 500 // GB
	volumeNameBound = 30
)

// createClasses makes the two storage classes. There is no class of Ingresses.
func createClasses(ctx context.Context, client kubernetes.Interface) error {
	classes := []*storagev1.StorageClass{
		class(classDelete, corev1.PersistentVolumeReclaimDelete),
		class(classRetain, corev1.PersistentVolumeReclaimRetain),
	}
	classes[0].Annotations = map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}
	for _, one := range classes {
		if _, err := client.StorageV1().StorageClasses().Create(ctx, one, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	driver := &storagev1.CSIDriver{
		ObjectMeta: metav1.ObjectMeta{Name: provisioner},
		Spec:       storagev1.CSIDriverSpec{AttachRequired: ptr.To(false)}, // the machine has it from its start
	}
	if _, err := client.StorageV1().CSIDrivers().Create(ctx, driver, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

func class(name string, policy corev1.PersistentVolumeReclaimPolicy) *storagev1.StorageClass {
	return &storagev1.StorageClass{
		ObjectMeta:        metav1.ObjectMeta{Name: name},
		Provisioner:       provisioner,
		ReclaimPolicy:     &policy,
		VolumeBindingMode: ptr.To(storagev1.VolumeBindingImmediate),
	}
}

// volumes makes volumes of the app that the pods run in.
type volumes struct {
	platform Platform
	of       flyemulator.Cluster

	mu   sync.Mutex
	made map[string]string // ids, by the name of the PersistentVolume
}

// Name implements volume.Provider.
func (v *volumes) Name() string { return provisioner }

// Provision implements volume.Provider.
func (v *volumes) Provision(_ context.Context, claim *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) error {
	if err := supported(claim); err != nil {
		return err
	}
	region := v.of.Region
	if claim.Spec.Selector != nil {
		region = claim.Spec.Selector.MatchLabels[regionLabel]
	}
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	id, err := v.id(pv.Name, region, size)
	if err != nil {
		return err
	}
	maps.Copy(pv.Annotations, map[string]string{volumeApp: v.of.App, volumeRegion: region, volumeID: id})
	pv.Labels = map[string]string{regionLabel: region}
	pv.Spec.CSI = &corev1.CSIPersistentVolumeSource{Driver: provisioner, VolumeHandle: id, FSType: "ext4"}
	return nil
}

// supported returns a *volume.Refusal for a claim that Fly has no volume for.
func supported(claim *corev1.PersistentVolumeClaim) error {
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	limit := resource.MustParse(fmt.Sprintf("%dGi", maxVolume))
	why := ""
	switch selector := claim.Spec.Selector; {
	case !slices.Equal(claim.Spec.AccessModes, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}):
		why = fmt.Sprintf("access modes %v are not supported: only ReadWriteOncePod is", claim.Spec.AccessModes)
	case size.Cmp(limit) > 0:
		why = fmt.Sprintf("%s is too large: a volume has at most %d GB", size.String(), maxVolume)
	case ptr.Deref(claim.Spec.VolumeMode, corev1.PersistentVolumeFilesystem) != corev1.PersistentVolumeFilesystem:
		why = "volumeMode Block is not supported"
	case selector != nil && (selector.MatchLabels[regionLabel] == "" || len(selector.MatchLabels) > 1 || len(selector.MatchExpressions) > 0):
		why = "the selector is not supported: it may only match the label region"
	}
	if why == "" {
		return nil
	}
	return &volume.Refusal{Why: why}
}

// id is that of Fly's volume, which is made once.
func (v *volumes) id(name, region string, size resource.Quantity) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if id := v.made[name]; id != "" {
		return id, nil
	}
	const gib = 1 << 30
	inFly := strings.ReplaceAll(name, "-", "_")
	var made struct{ ID string }
	err := ask(v.platform, http.MethodPost, "/v1/apps/"+v.of.App+"/volumes", map[string]any{
		"name": inFly[:min(len(inFly), volumeNameBound)], "region": region, "size_gb": (size.Value() + gib - 1) / gib,
	}, &made)
	if err != nil {
		return "", fmt.Errorf("create the volume: %w", err)
	}
	v.made[name] = made.ID
	return made.ID, nil
}

// Delete implements volume.Provider.
func (v *volumes) Delete(_ context.Context, pv *corev1.PersistentVolume) error {
	err := ask(v.platform, http.MethodDelete, "/v1/apps/"+v.of.App+"/volumes/"+pv.Annotations[volumeID], nil, nil)
	if isMissing(err) {
		return nil
	}
	return err
}

// apiError is Fly's refusal.
type apiError struct {
	status int
	text   string
}

func (e *apiError) Error() string { return fmt.Sprintf("%d: %s", e.status, e.text) }

func isMissing(err error) bool {
	var failed *apiError
	return errors.As(err, &failed) && failed.status == http.StatusNotFound
}

// ask asks the Machines API as Fly itself does, which needs no token.
func ask(p Platform, method, path string, in, out any) error {
	var body json.RawMessage
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	status, answer := p.Drift(flyemulator.Drift{Method: method, Path: path, Body: body})
	if status >= http.StatusBadRequest {
		return &apiError{status, strings.TrimSpace(string(answer))}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

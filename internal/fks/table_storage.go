package fks

// storageRules are about volumes: those that are claimed, those of pods, and
// both together.
func storageRules() []Rule {
	return []Rule{
		{
			ID: "FKS501", Name: "storage-class-kind", Kinds: []string{"StorageClass.storage.k8s.io"}, Action: Drop,
			Message: "There is one provisioner, with two classes: flyio-volume and flyio-volume-retain.",
			Hint:    "let claims name one of these",
			Doc:     docVolumes, Unless: Capability{StorageClass: true},
		},
		{
			ID: "FKS502", Name: "storage-class", Kinds: claimKinds, Path: "{claim}.storageClassName", When: When{NoneOf: []string{"flyio-volume", "flyio-volume-retain"}}, Action: Error,
			Message: "There are two storage classes: flyio-volume, and flyio-volume-retain, whose disks stay when their claims go.",
			Hint:    "name one of these; without any it is flyio-volume",
			Doc:     docVolumes, Unless: Capability{StorageClass: true},
		},
		{
			ID: "FKS503", Name: "ephemeral-class-missing", Kinds: podKinds, Path: "{pod}.volumes[*].ephemeral.volumeClaimTemplate.spec.storageClassName",
			When: When{Absent: true, Words: "the volume has a claim that names none"}, Action: Rewrite, holds: claims, change: becomes("flyio-volume"),
			Message: "An ephemeral volume must name the class flyio-volume.",
			Doc:     docVolumes,
		},
		{
			ID: "FKS504", Name: "ephemeral-class", Kinds: podKinds, Path: "{pod}.volumes[*].ephemeral.volumeClaimTemplate.spec.storageClassName",
			When: When{OneOf: []string{"flyio-volume-retain"}}, Action: Error,
			Message: "An ephemeral volume must be of the class flyio-volume.",
			Hint:    "write flyio-volume; for data that stays, claim a volume",
			Doc:     docVolumes,
		},
		{
			ID: "FKS505", Name: "access-of-many", Kinds: claimKinds, Path: "{claim}.accessModes", When: When{OneOf: []string{"ReadWriteMany", "ReadOnlyMany"}}, Action: Error,
			Message: "A volume is a disk of one machine: no two pods share it.",
			Hint:    "keep shared files in an object store",
			Doc:     docVolumes,
		},
		{
			ID: "FKS506", Name: "access-once", Kinds: claimKinds, Path: "{claim}.accessModes", When: When{OneOf: []string{"ReadWriteOnce"}, Words: "it is nothing for many"},
			Action: Rewrite, holds: forOne, change: forOnePod,
			Message: "A volume is mounted by one pod: ReadWriteOncePod is the one mode there is.",
			Hint:    "write ReadWriteOncePod",
			Doc:     docVolumes,
		},
		{
			ID: "FKS507", Name: "volume-size", Kinds: claimKinds, Path: "{claim}.resources.requests.storage", When: When{Over: "500Gi"}, Action: Error,
			Message: "A volume has at most 500 GB.",
			Hint:    "ask for less, or keep the data elsewhere",
			Doc:     docVolumes,
		},
		{
			ID: "FKS508", Name: "block-volume", Kinds: claimKinds, Path: "{claim}.volumeMode", When: When{OneOf: []string{"Block"}}, Action: Error,
			Message: "A volume has a file system: block devices are not supported.",
			Hint:    "leave volumeMode out",
			Doc:     docVolumes,
		},
		{
			ID: "FKS509", Name: "volume-selector", Kinds: claimKinds, Path: "{claim}.selector", When: When{Words: "it asks for more than a region"}, Action: Error, holds: moreThanRegion,
			Message: "A claim can select a region, and nothing else.",
			Hint:    "write selector: matchLabels: region: ord, or leave it out",
			Doc:     docVolumes,
		},
		{
			ID: "FKS510", Name: "volume-source", Kinds: claimKinds, Path: "{claim}.(dataSource|dataSourceRef)", Action: Error,
			Message: "Nothing is said of volumes that begin with the data of others.",
			Hint:    "restore the data from a backup",
			Doc:     Undocumented,
		},
		{
			ID: "FKS511", Name: "volume-name", Kinds: claimKinds, Path: "{claim}.volumeName", Action: Warn,
			Message: "A volume that is there already has to be of this cluster and in the region of the pod.",
			Hint:    "leave it out, and a volume is made",
			Doc:     Undocumented,
		},
		{
			ID: "FKS512", Name: "persistent-volume", Kinds: []string{"PersistentVolume"}, Action: Warn,
			Message: "Volumes are made for claims; nothing is said of those that somebody else makes.",
			Hint:    "claim it, and leave this out",
			Doc:     Undocumented,
		},
		{
			ID: "FKS521", Name: "empty-dir-scratch", Kinds: podKinds, Path: "{pod}.volumes[*]", When: When{Words: "it is an emptyDir, mounted at /tmp, /var/tmp, /run, /var/run, /dev/shm or a cache only"},
			Action: Drop, holds: scratch, change: unmount,
			Message: "emptyDir is not supported, and not needed there: the file system of a machine is writable.",
			Hint:    "make the directory in the image, for the user that it runs as",
			Doc:     docFeatures,
		},
		{
			ID: "FKS522", Name: "empty-dir-to-volume", Kinds: podKinds, Path: "{pod}.volumes[*]", When: When{Words: "it is an emptyDir, and the only volume of the pod that is a disk"},
			Action: Rewrite, holds: onlyDisk, change: becomesVolume,
			Message: "emptyDir is not supported: it is a volume of its own, which goes with the pod.",
			Hint:    "write sizeLimit: without it the volume has 1Gi",
			Doc:     docVolumes,
		},
		{
			ID: "FKS523", Name: "empty-dir", Kinds: podKinds, Path: "{pod}.volumes[*]", When: When{Words: "it is an emptyDir"}, Action: Error, holds: isEmptyDir,
			Message: "emptyDir is not supported, and a pod has one volume.",
			Hint:    "use a directory of the other volume, or of the machine's own file system",
			Doc:     docFeatures,
		},
		{
			ID: "FKS524", Name: "foreign-volume", Kinds: podKinds,
			Path: "{pod}.volumes[*].(hostPath|nfs|csi|iscsi|fc|rbd|cephfs|glusterfs|awsElasticBlockStore|gcePersistentDisk|azureDisk|azureFile|vsphereVolume|cinder|portworxVolume|flexVolume|gitRepo|image)", Action: Error,
			Message: "There is no node that could mount it: volumes are Fly's.",
			Hint:    "claim a volume, or take the files into the image",
			Doc:     docVolumes,
		},
		{
			ID: "FKS525", Name: "downward-volume", Kinds: podKinds, Path: "{pod}.volumes[*].(downwardAPI|projected.sources[*].downwardAPI)", Action: Error,
			Message: "Fields of a pod are not supported as variables, and not as files.",
			Hint:    "have the program read what a Fly Machine has, such as FLY_PRIVATE_IP",
			Doc:     docPods,
		},
		{
			ID: "FKS526", Name: "file-volume", Kinds: podKinds, Path: "{pod}.volumes[*].(configMap|secret|projected)", Action: Warn,
			Message: "Nothing is said of files from ConfigMaps and Secrets.",
			Hint:    "see that they are there, or hand them over as variables",
			Doc:     Undocumented,
		},
		{
			ID: "FKS527", Name: "sub-path", Kinds: podKinds, Path: "{container}.volumeMounts[*].(subPath|subPathExpr)",
			When:   When{Words: "the volume is a disk"},
			Action: Warn, holds: mountsDisk,
			Message: "Nothing is said of parts of a volume: a Fly Machine mounts a volume as a whole.",
			Hint:    "mount all of it, at a directory of its own",
			Doc:     Undocumented,
		},
		{
			ID: "FKS531", Name: "two-volumes", Kinds: podKinds, Path: "{pod}.volumes", When: When{Absent: true, Words: "more than one is a disk, those of a StatefulSet's templates counted"}, Action: Error, holds: twoDisks,
			Message: "A pod has one volume.",
			Hint:    "keep everything on one, in directories",
			Doc:     docVolumes,
		},
		{
			ID: "FKS532", Name: "shared-claim", Kinds: []string{"Deployment.apps", "ReplicaSet.apps", "StatefulSet.apps", "ReplicationController"}, Path: "spec.replicas",
			When: When{Over: "1", Words: "its pods have the same claim"}, Action: Error, holds: sharesClaim,
			Message: "A volume is mounted by one pod: the others would wait for it forever.",
			Hint:    "ask for one replica, or keep the data elsewhere",
			Doc:     docVolumes,
		},
		{
			ID: "FKS533", Name: "claim-handover", Kinds: []string{"Deployment.apps"}, Path: "spec.strategy",
			When: When{Absent: true, Words: "its pods have a claim, and it does not say Recreate"}, Action: Rewrite, holds: handsOver, change: recreates,
			Message: "A volume is mounted by one pod: the old one has to go before the new one can begin.",
			Hint:    "write strategy: type: Recreate",
			Doc:     docVolumes,
		},
	}
}

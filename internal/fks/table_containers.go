package fks

// containerRules are about the fields of containers.
func containerRules() []Rule {
	return []Rule{
		{
			ID: "FKS301", Name: "memory", Kinds: podKinds, Path: "{container}.resources.limits.memory",
			When:   When{Absent: true, Words: "it is missing, or no multiple of 256 Mi"},
			Action: Rewrite, holds: uneven(memorySize), change: even(memorySize),
			Message: "A machine has the size of the limits, and memory in steps of 256 MB.",
			Hint:    "write a limit that is a multiple of 256Mi; what is missing is taken from the request, or 512Mi",
			Doc:     docMachines,
		},
		{
			ID: "FKS302", Name: "cpu", Kinds: podKinds, Path: "{container}.resources.limits.cpu",
			When:   When{Absent: true, Words: "it is missing, or not one of 1, 2, 4, 8 and 16"},
			Action: Rewrite, holds: uneven(cpuSize), change: even(cpuSize),
			Message: "A machine has the size of the limits, and 1, 2, 4, 8 or 16 CPUs.",
			Hint:    "write a limit that is one of these; what is missing is taken from the request, or 1",
			Doc:     docMachines,
		},
		{
			ID: "FKS303", Name: "many-cpus", Kinds: podKinds, Path: "{container}.resources.limits.cpu", When: When{Over: "16"}, Action: Warn,
			Message: "No machine has more than 16 CPUs.",
			Hint:    "ask for 16 or less",
			Doc:     docMachines,
		},
		{
			ID: "FKS304", Name: "ports", Kinds: podKinds, Path: "{container}.ports", Action: Note,
			Message: "The ports of a container are not read: Services say which are used.",
			Doc:     docPods, Harmless: true,
		},
		{
			ID: "FKS305", Name: "host-port", Kinds: podKinds, Path: "{container}.ports[*].hostPort", Action: Drop,
			Message: "There is no host whose port it could be.",
			Hint:    "expose a Service of type LoadBalancer",
			Doc:     docPods,
		},
		{
			ID: "FKS306", Name: "probes", Kinds: podKinds, Path: "{container}.(startupProbe|readinessProbe|livenessProbe)", Action: Drop,
			Message: "Probes are not supported: rollouts do not wait until it is ready, and nothing restarts what hangs.",
			Hint:    "judge it from outside, through its Service, and let a program that is ill end",
			Doc:     docPods,
		},
		{
			ID: "FKS307", Name: "lifecycle", Kinds: podKinds, Path: "{container}.lifecycle", Action: Drop,
			Message: "Hooks of the life cycle are not supported: no preStop keeps a program from ending amid requests.",
			Hint:    "let the program finish what it has begun when it gets SIGTERM",
			Doc:     docPods,
		},
		{
			ID: "FKS308", Name: "security-context", Kinds: podKinds, Path: "{container}.securityContext", Action: Drop,
			Message: "The securityContext of a container is not supported: it runs as the image's user, on a writable file system.",
			Hint:    "let the image have a USER that is not root",
			Doc:     docPods,
		},
		{
			ID: "FKS309", Name: "pull-policy", Kinds: podKinds, Path: "{container}.imagePullPolicy", Action: Drop,
			Message: "imagePullPolicy is not supported.",
			Hint:    "name images by digest, or by tags that do not move",
			Doc:     docPods, Harmless: true,
		},
		{
			ID: "FKS310", Name: "termination-message", Kinds: podKinds, Path: "{container}.(terminationMessagePath|terminationMessagePolicy)", Action: Drop,
			Message: "Messages at the end of a container are not supported.",
			Doc:     docPods, Harmless: true,
		},
		{
			ID: "FKS311", Name: "terminal", Kinds: podKinds, Path: "{container}.(stdin|stdinOnce|tty)", Action: Drop,
			Message: "Nobody can be attached to a container.",
			Doc:     docPods,
		},
		{
			ID: "FKS312", Name: "resize-policy", Kinds: podKinds, Path: "{container}.resizePolicy", Action: Drop,
			Message: "A machine is not resized while it runs.",
			Doc:     docPods, Harmless: true,
		},
		{
			ID: "FKS313", Name: "working-dir-in-command", Kinds: podKinds, Path: "{container}.workingDir",
			When:   When{Words: "the container has a command"},
			Action: Rewrite, holds: hasCommand, change: changesDir,
			Message: "workingDir is not supported: the command goes there first, with /bin/sh of the image.",
			Hint:    "set WORKDIR in the image",
			Doc:     docPods,
		},
		{
			ID: "FKS314", Name: "working-dir", Kinds: podKinds, Path: "{container}.workingDir", Action: Error,
			Message: "workingDir is not supported, and the image's own command is not known.",
			Hint:    "set WORKDIR in the image, or write the command",
			Doc:     docPods,
		},
		{
			ID: "FKS315", Name: "field-ref-known", Kinds: podKinds, Path: "{container}.env[*].valueFrom.fieldRef",
			When:   When{Words: "it is the namespace, the name of a bare Pod, the service account, or a label or annotation of the template"},
			Action: Rewrite, holds: knownField, change: writesField,
			Message: "fieldRef is not supported: what is known beforehand is written as a value.",
			Doc:     docPods,
		},
		{
			ID: "FKS316", Name: "field-ref", Kinds: podKinds, Path: "{container}.env[*].valueFrom.fieldRef", Action: Error,
			Message: "fieldRef is not supported, and a variable cannot take its value from another one of the machine.",
			Hint:    "have the program read what a Fly Machine has: FLY_PRIVATE_IP is its address, FLY_MACHINE_ID its name, FLY_REGION where it is",
			Doc:     docPods,
		},
		{
			ID: "FKS317", Name: "resource-field-ref-known", Kinds: podKinds, Path: "{container}.env[*].valueFrom.resourceFieldRef",
			When:   When{Words: "the container says how much it is"},
			Action: Rewrite, holds: knownResource, change: writesResource,
			Message: "resourceFieldRef is not supported: the size of the container is written as a value.",
			Doc:     docPods,
		},
		{
			ID: "FKS318", Name: "resource-field-ref", Kinds: podKinds, Path: "{container}.env[*].valueFrom.resourceFieldRef", Action: Error,
			Message: "resourceFieldRef is not supported, and how much it is cannot be told beforehand.",
			Hint:    "write the value",
			Doc:     docPods,
		},
		{
			ID: "FKS319", Name: "volume-devices", Kinds: podKinds, Path: "{container}.volumeDevices", Action: Error,
			Message: "Block devices are not supported.",
			Hint:    "mount a volume with a file system",
			Doc:     docPods,
		},
	}
}

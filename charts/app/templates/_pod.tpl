{{/*
The pod template of the app and of every worker. A dict with "root",
"component", "container" (its name), "args", "resources", "grace" (seconds),
"scaling", "volumes", "serves" (whether it has the port) and "probes" (text).
*/}}
{{- define "app.pod-template" -}}
{{- $values := .root.Values }}
metadata:
  labels:
    {{- include "app.labels" . | nindent 4 }}
  annotations:
    # What the pod was started with. A change here is what makes a rollout.
    checksum.forged.dev/config: {{ include "app.env-data" .root | sha256sum | quote }}
    {{- with $values.configChecksum }}
    checksum.forged.dev/files: {{ . | quote }}
    {{- end }}
    {{- range $name, $sum := $values.secretChecksums }}
    {{ printf "checksum.forged.dev/secret.%s" $name | quote }}: {{ $sum | quote }}
    {{- end }}
spec:
  serviceAccountName: {{ .root.Release.Name | quote }}
  automountServiceAccountToken: false
  {{- with $values.imagePullSecret }}
  imagePullSecrets:
    - name: {{ . | quote }}
  {{- end }}
  # Service links would put variables like SHOP_PORT into the environment.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .grace }}
  {{- if gt (int .scaling.max) 1 }}
  # Not all on one node or in one zone, as far as the cluster has others.
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "app.selector" $ | nindent 10 }}
      matchLabelKeys:
        - pod-template-hash
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: {{ int $values.user.uid }}
    runAsGroup: {{ int $values.user.gid }}
    fsGroup: {{ int $values.user.gid }}
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: {{ .container }}
      image: {{ $values.image.reference | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      {{- with .args }}
      args:
        {{- range . }}
        - {{ . | quote }}
        {{- end }}
      {{- end }}
      envFrom:
        - configMapRef:
            name: {{ include "app.env-name" .root | quote }}
        {{- range $values.secretNames }}
        - secretRef:
            name: {{ . | quote }}
        {{- end }}
      {{- if .serves }}
      ports:
        - name: http
          containerPort: {{ int $values.port }}
          protocol: TCP
      {{- end }}
      {{- with trim .probes }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- if and .serves (gt (int $values.preStopSeconds) 0) }}
      lifecycle:
        preStop:
          # Endpoints are taken out while the process still answers.
          sleep:
            seconds: {{ int $values.preStopSeconds }}
      {{- end }}
      resources:
        requests:
          cpu: {{ .resources.cpu | quote }}
          memory: {{ .resources.memory | quote }}
        {{- if or .resources.cpuLimit .resources.memoryLimit }}
        limits:
          {{- with .resources.cpuLimit }}
          cpu: {{ . | quote }}
          {{- end }}
          {{- with .resources.memoryLimit }}
          memory: {{ . | quote }}
          {{- end }}
        {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: {{ $values.readOnlyRootFilesystem }}
        capabilities:
          drop:
            - ALL
      {{- with include "app.mounts" . | trim }}
      volumeMounts:
        {{- . | nindent 8 }}
      {{- end }}
  {{- with include "app.volumes" . | trim }}
  volumes:
    {{- . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "app.mounts" -}}
{{- if .root.Values.temporaryVolumes }}
- name: tmp
  mountPath: /tmp
{{- end }}
{{- range $i, $volume := .volumes }}
- name: {{ printf "volume-%d" $i }}
  mountPath: {{ $volume.mount | quote }}
{{- end }}
{{- if include "app.forged-files" .root | fromYamlArray }}
- name: forged
  mountPath: /run/forged
  readOnly: true
{{- end }}
{{- range $i, $file := include "app.other-files" .root | fromYamlArray }}
- name: files
  mountPath: {{ $file.path | quote }}
  subPath: {{ printf "file-%d" $i }}
  readOnly: true
{{- end }}
{{- end }}

{{- define "app.volumes" -}}
{{- if .root.Values.temporaryVolumes }}
- name: tmp
  emptyDir:
    sizeLimit: 1Gi
{{- end }}
{{- range $i, $volume := .volumes }}
- name: {{ printf "volume-%d" $i }}
  persistentVolumeClaim:
    claimName: {{ $volume.claim | quote }}
{{- end }}
{{- with include "app.forged-files" .root | fromYamlArray }}
- name: forged
  projected:
    defaultMode: 0440
    sources:
      {{- range . }}
      {{- include "app.file-source" (dict "file" . "to" (trimPrefix "/run/forged/" .path)) | nindent 6 }}
      {{- end }}
{{- end }}
{{- with include "app.other-files" .root | fromYamlArray }}
- name: files
  projected:
    defaultMode: 0440
    sources:
      {{- range $i, $file := . }}
      {{- include "app.file-source" (dict "file" $file "to" (printf "file-%d" $i)) | nindent 6 }}
      {{- end }}
{{- end }}
{{- end }}

{{/* Probes of the app, over HTTP. */}}
{{- define "app.http-probes" -}}
{{- $health := .Values.health }}
startupProbe:
  # Asked every 2 s, so that a quick start is noticed quickly.
  httpGet:
    path: {{ $health.live | quote }}
    port: http
  periodSeconds: 2
  timeoutSeconds: {{ int $health.timeoutSeconds }}
  failureThreshold: {{ div (add (int $health.startupSeconds) 1) 2 }}
livenessProbe:
  httpGet:
    path: {{ $health.live | quote }}
    port: http
  periodSeconds: {{ int $health.intervalSeconds }}
  timeoutSeconds: {{ int $health.timeoutSeconds }}
  failureThreshold: {{ int $health.failures }}
readinessProbe:
  httpGet:
    path: {{ $health.ready | quote }}
    port: http
  periodSeconds: {{ int $health.intervalSeconds }}
  timeoutSeconds: {{ int $health.timeoutSeconds }}
  failureThreshold: {{ int $health.failures }}
{{- end }}

{{/*
Probes of a worker, by a command. The startup probe is what keeps a worker from
being ready too early: nobody sends it requests, so it needs no readiness probe
that starts an interpreter every few seconds.
*/}}
{{- define "app.exec-probes" -}}
{{- if .exec }}
startupProbe:
  exec:
    command:
      {{- range .exec }}
      - {{ . | quote }}
      {{- end }}
  periodSeconds: 5
  timeoutSeconds: {{ int .timeoutSeconds }}
  failureThreshold: {{ div (add (int .startupSeconds) 4) 5 }}
livenessProbe:
  exec:
    command:
      {{- range .exec }}
      - {{ . | quote }}
      {{- end }}
  periodSeconds: {{ int .intervalSeconds }}
  timeoutSeconds: {{ int .timeoutSeconds }}
  failureThreshold: {{ int .failures }}
{{- end }}
{{- end }}

{{/* The pod of the server. */}}
{{- define "postgres.pod-template" -}}
metadata:
  labels:
    {{- include "postgres.labels" . | nindent 4 }}
  {{- with .Values.secretChecksums }}
  annotations:
    {{- range $name, $sum := . }}
    {{ printf "checksum.forged.dev/secret.%s" $name | quote }}: {{ $sum | quote }}
    {{- end }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  # Time for the last checkpoint.
  terminationGracePeriodSeconds: 120
  securityContext:
    {{- include "postgres.pod-security" . | nindent 4 }}
  containers:
    - name: postgres
      image: {{ .Values.image.reference | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command:
        - sh
        - -ec
        - |
          {{- include "postgres.user" . | nindent 10 }}
        - |
          {{- include "postgres.start" . | nindent 10 }}
      env:
        {{- include "postgres.env" . | nindent 8 }}
        # Below the mount point, which may hold lost+found.
        - name: PGDATA
          value: /var/lib/postgresql/data/pgdata
      ports:
        - name: postgresql
          containerPort: 5432
          protocol: TCP
      startupProbe:
        # An hour: recovery after a crash may take its time, and a server
        # that cannot start ends by itself.
        exec:
          command:
            - pg_isready
            - -q
            - -h
            - 127.0.0.1
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 1800
      livenessProbe:
        # 0 accepts, 1 answers but refuses for now (recovery): both live.
        exec:
          command:
            - sh
            - -c
            - pg_isready -q -h 127.0.0.1; [ $? -le 1 ]
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        # What clients will do: log in, with the password, into the database.
        exec:
          command:
            - sh
            - -ec
            - |
              pg_isready -q -h 127.0.0.1
              login() {
                PGPASSWORD="$2" PGCONNECT_TIMEOUT=3 \
                  psql -XqtA -h 127.0.0.1 -U "$1" -d "$3" -c 'SELECT 1' > /dev/null
              }
              login "$POSTGRES_USER" "$POSTGRES_PASSWORD" "$POSTGRES_DB"
              {{- range $i, $role := .Values.roles }}
              login {{ $role.name }} "$ROLE_{{ $i }}_PASSWORD" {{ first $role.databases }}
              {{- end }}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 3
      lifecycle:
        preStop:
          # The signal of Kubernetes would wait until every client has gone; this
          # one does not.
          exec:
            command:
              - sh
              - -c
              - kill -INT "$(head -n 1 "$PGDATA/postmaster.pid")"
      resources:
        {{- include "postgres.resources" . | nindent 8 }}
      securityContext:
        {{- include "postgres.container-security" . | nindent 8 }}
      volumeMounts:
        - name: data
          mountPath: /var/lib/postgresql/data
        {{- if .Values.temporaryVolumes }}
        - name: shared-memory
          mountPath: /dev/shm
        - name: run
          mountPath: /var/run/postgresql
        - name: tmp
          mountPath: /tmp
        {{- end }}
        {{- if .Values.tlsSecret }}
        - name: tls
          mountPath: /run/forged/tls
          readOnly: true
        {{- end }}
  {{- with include "postgres.volumes" . | trim }}
  volumes:
    {{- . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* What there is beside the claim that a StatefulSet makes. */}}
{{- define "postgres.volumes" -}}
{{- if eq .Values.workload "Deployment" }}
- name: data
  persistentVolumeClaim:
    claimName: {{ .Values.storage.claim | quote }}
{{- end }}
{{- if .Values.temporaryVolumes }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.sharedMemory | quote }}
# Holds the key of the certificate: never on a disk.
- name: run
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
- name: tmp
  emptyDir:
    sizeLimit: 1Gi
{{- end }}
{{- with .Values.tlsSecret }}
- name: tls
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0400
    items:
      - key: tls.crt
        path: tls.crt
      - key: tls.key
        path: tls.key
{{- end }}
{{- end }}

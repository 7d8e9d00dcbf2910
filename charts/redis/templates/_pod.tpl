{{/* The pod of the server. */}}
{{- define "redis.pod-template" -}}
metadata:
  labels:
    {{- include "redis.labels" . | nindent 4 }}
  {{- with .Values.secretChecksums }}
  annotations:
    {{- range $name, $sum := . }}
    {{ printf "checksum.forged.dev/secret.%s" $name | quote }}: {{ $sum | quote }}
    {{- end }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 60
  securityContext:
    runAsNonRoot: true
    runAsUser: 999
    runAsGroup: 999
    fsGroup: 999
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: redis
      image: {{ .Values.image.reference | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command:
        - sh
        - -ec
        - |
          {{- include "redis.start" . | nindent 10 }}
      env:
        # Also what redis-cli logs in with, in the probes below.
        - name: REDISCLI_AUTH
          valueFrom:
            secretKeyRef:
              name: {{ .Values.secretName | quote }}
              key: password
      ports:
        - name: redis
          containerPort: 6379
          protocol: TCP
      startupProbe:
        # Five minutes to read the append-only file.
        exec:
          command:
            - sh
            - -c
            # redis-cli exits 0 on errors like NOAUTH and LOADING.
            - '[ "$(redis-cli -h 127.0.0.1 ping)" = PONG ]'
        periodSeconds: 2
        timeoutSeconds: 3
        failureThreshold: 150
      livenessProbe:
        # Any answer: a full disk is an error too, and no restart mends it.
        exec:
          command:
            - redis-cli
            - -h
            - 127.0.0.1
            - ping
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        exec:
          command:
            - sh
            - -c
            - '[ "$(redis-cli -h 127.0.0.1 ping)" = PONG ]'
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 3
      resources:
        {{- include "redis.resources" . | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: {{ .Values.temporaryVolumes }}
        capabilities:
          drop:
            - ALL
      {{- if or .Values.persistence .Values.temporaryVolumes }}
      volumeMounts:
        - name: data
          mountPath: /data
      {{- end }}
  {{- if and .Values.persistence (eq .Values.workload "Deployment") }}
  volumes:
    - name: data
      persistentVolumeClaim:
        claimName: {{ .Values.storage.claim | quote }}
  {{- else if and (not .Values.persistence) .Values.temporaryVolumes }}
  volumes:
    - name: data
      emptyDir: {}
  {{- end }}
{{- end }}

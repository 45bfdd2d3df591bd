{{/* What every pod of the chart is: closed, without a token, and without the variables that Kubernetes makes of Services.
One of a Service `penstock-api` would be PENSTOCK_API_PORT, and be taken for the setting. */}}
{{- define "penstock.closedPod" -}}
serviceAccountName: {{ include "penstock.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "penstock.closedContainer" -}}
imagePullPolicy: {{ .Values.images.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Where a pod may run: the values of the API, or of a class of workers. */}}
{{- define "penstock.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "penstock.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
{{- with include "penstock.secretFiles" . | fromYaml }}
- name: secrets
  secret:
    secretName: {{ include "penstock.secret" $.root }}
    defaultMode: 0440
    items:
      {{- range $key, $_ := . }}
      - {key: {{ $key }}, path: {{ $key }}}
      {{- end }}
{{- end }}
{{- with .root.Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "penstock.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if include "penstock.secretFiles" . | fromYaml }}
- {name: secrets, mountPath: /run/secrets/penstock, readOnly: true}
{{- end }}
{{- with .root.Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Pods are replaced when the Secret that the chart makes changes: they read it at the start. */}}
{{- define "penstock.podAnnotations" -}}
{{- if not .root.Values.secrets.existing }}
penstock/secrets: {{ toYaml .root.Values.secrets.values | sha256sum }}
{{- end }}
{{- with .annotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

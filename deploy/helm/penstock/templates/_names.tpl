{{/* Everything is called after the release. */}}
{{- define "penstock.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "penstock.secret" -}}
{{- if .Values.secrets.existing -}}
{{ .Values.secrets.existing }}
{{- else -}}
{{ include "penstock.name" . }}
{{- end }}
{{- end }}

{{/* What finds the objects of this release. */}}
{{- define "penstock.selector" -}}
app.kubernetes.io/name: penstock
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "penstock.labels" -}}
{{ include "penstock.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* An image of `images`, by its name and what stands behind its version. */}}
{{- define "penstock.image" -}}
{{- $images := .root.Values.images -}}
{{- $name := empty $images.prefix | ternary .name (printf "%s/%s" (trimSuffix "/" $images.prefix) .name) -}}
{{ $name }}:{{ $images.version | default .root.Chart.AppVersion }}{{ .suffix }}
{{- end }}

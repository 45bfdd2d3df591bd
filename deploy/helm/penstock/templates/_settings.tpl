{{/* The settings that API and workers share, by variable, as YAML. */}}
{{- define "penstock.settings" -}}
REDIS_URL: {{ required "set redis.url: the chart brings no Redis" .Values.redis.url | quote }}
USE_LOCAL_STORAGE: "false"
PENSTOCK_STORAGE_S3_ENDPOINT: {{ .Values.storage.endpoint | quote }}
PENSTOCK_STORAGE_S3_PUBLIC_ENDPOINT: {{ .Values.storage.publicEndpoint | quote }}
PENSTOCK_STORAGE_S3_BUCKET: {{ .Values.storage.bucket | quote }}
PENSTOCK_STORAGE_S3_REGION: {{ .Values.storage.region | quote }}
PENSTOCK_TELEMETRY_METRICS_HOST: 0.0.0.0
PENSTOCK_TELEMETRY_LOG_FORMAT: json
{{- with .Values.settings }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The keys of the Secret that a component reads, and the variable that names the file of each, as YAML. */}}
{{- define "penstock.secretFiles" -}}
{{- if eq .component "api" }}
api-keys: API_KEYS_FILE
{{- if .root.Values.webhooks.enabled }}
webhook-secrets: PENSTOCK_WEBHOOKS_SECRETS_FILE
{{- end }}
{{- end }}
{{- if .root.Values.redis.hasPassword }}
redis-password: PENSTOCK_REDIS_PASSWORD_FILE
{{- end }}
{{- if .root.Values.storage.hasKeys }}
s3-access-key: PENSTOCK_STORAGE_S3_ACCESS_KEY_FILE
s3-secret-key: PENSTOCK_STORAGE_S3_SECRET_KEY_FILE
{{- end }}
{{- end }}

{{/* The environment of a container: `settings` of its own over those that all share, and the files of secrets. */}}
{{- define "penstock.environment" -}}
{{- $settings := mustMergeOverwrite (include "penstock.settings" .root | fromYaml) .settings -}}
{{- range $key, $variable := include "penstock.secretFiles" . | fromYaml }}
{{- $_ := set $settings $variable (printf "/run/secrets/penstock/%s" $key) }}
{{- end }}
{{- range $name, $value := $settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

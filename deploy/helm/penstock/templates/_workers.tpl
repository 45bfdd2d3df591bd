{{/* The classes of workers with all of their values, as YAML. */}}
{{- define "penstock.workers" -}}
{{- range $name, $given := .Values.workers }}
{{- if $given }}
{{ $name }}:
  {{- mustMergeOverwrite (deepCopy $.Values.workerDefaults) $given | toYaml | nindent 2 }}
{{- else if kindIs "map" $given }}
{{ $name }}:
  {{- $.Values.workerDefaults | toYaml | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Longest time that a stopped worker takes for the tasks that it has: those on its device, and then the upload. */}}
{{- define "penstock.drainSeconds" -}}
{{ add .taskSeconds 30 }}
{{- end }}

{{/* Settings of a class, by variable, as YAML. */}}
{{- define "penstock.workerSettings" -}}
GPU_IDS: {{ gt (int .gpus) 0 | ternary "auto" "cpu" }}
PENSTOCK_MODELS_MODULES: {{ .noop | ternary (append .modules "penstock.models.noop") .modules | join "," | quote }}
{{- with .models }}
PENSTOCK_MODELS_SERVE: {{ $.noop | ternary (append . "noop-v1") . | join "," | quote }}
{{- end }}
PENSTOCK_WORKER_TASK_TIMEOUT_S: {{ .taskSeconds | int | quote }}
PENSTOCK_WORKER_START_S: {{ .startSeconds | int | quote }}
PENSTOCK_WORKER_DRAIN_S: {{ include "penstock.drainSeconds" . | quote }}
PENSTOCK_WORKER_SPOOL_DIRECTORY: /spool
PENSTOCK_WORKER_SPOOL_MAX_BYTES: {{ mul .spoolMebibytes 1048576 | quote }}
PENSTOCK_WORKER_CACHE_DIR: /cache
{{- with .settings }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Models of a class as a regular expression of PromQL: a bare name is all of its versions. */}}
{{- define "penstock.modelPattern" -}}
{{- $patterns := list }}
{{- range .models }}
{{- $name := replace "." "[.]" . }}
{{- $patterns = append $patterns (contains "@" . | ternary $name (printf "%s(@.*)?" $name)) }}
{{- end }}
{{- if .noop }}
{{- $patterns = append $patterns "noop-v1(@.*)?" }}
{{- end }}
{{- join "|" $patterns }}
{{- end }}

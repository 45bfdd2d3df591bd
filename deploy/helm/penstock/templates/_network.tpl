{{/* One rule of what may be reached: no peers means anywhere. */}}
{{- define "penstock.peersTo" -}}
- ports:
    {{- toYaml .ports | nindent 4 }}
  {{- with .peers }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "penstock.storesTo" -}}
{{- $policy := .Values.networkPolicy -}}
{{ include "penstock.peersTo" (dict "peers" $policy.redis.peers "ports" (list (dict "port" $policy.redis.port))) }}
{{ include "penstock.peersTo" (dict "peers" $policy.storage.peers "ports" (list (dict "port" $policy.storage.port))) }}
{{- end }}

{{/* Public addresses. Private ones, and the metadata services of clouds, stay closed. */}}
{{- define "penstock.outside" -}}
- ports: [{port: 80}, {port: 443}]
  to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except: [10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16]
    - ipBlock:
        cidr: ::/0
        except: [fc00::/7, fe80::/10]
{{- end }}

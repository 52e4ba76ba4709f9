{{/*
A role, and its binding to the operator.
Arguments: root, name (a suffix), rules (YAML); namespace, without which both are for the whole cluster.
*/}}
{{- define "taskwatch.role" -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ if .namespace }}Role{{ else }}ClusterRole{{ end }}
metadata:
  name: {{ include "taskwatch.fullname" .root }}-{{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "taskwatch.labels" .root | nindent 4 }}
rules:
  {{- .rules | nindent 2 }}
{{- end }}

{{/* Arguments as above, and role: the kind of what is bound. */}}
{{- define "taskwatch.binding" -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ if .namespace }}RoleBinding{{ else }}ClusterRoleBinding{{ end }}
metadata:
  name: {{ include "taskwatch.fullname" .root }}-{{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "taskwatch.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .role }}
  name: {{ include "taskwatch.fullname" .root }}-{{ .name }}
subjects:
  {{- include "taskwatch.subject" .root | nindent 2 }}
{{- end }}

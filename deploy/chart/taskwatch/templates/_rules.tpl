{{/* What the operator does, call by call, for a ClusterRole or a Role; see deploy/rbac/operator.yaml. */}}
{{- define "taskwatch.rules.operator" -}}
{{- $cluster := include "taskwatch.clusterConnections" . }}
- apiGroups: [taskwatch.dev]
  resources: [taskwatches]
  verbs: [get, list, watch, delete]
- apiGroups: [taskwatch.dev]
  resources: [taskconnections{{ if $cluster }}, clustertaskconnections{{ end }}]
  verbs: [list, watch]
- apiGroups: [taskwatch.dev]
  resources: [taskwatches/status, taskconnections/status{{ if $cluster }}, clustertaskconnections/status{{ end }}]
  verbs: [patch]
{{- if $cluster }}
# Labels of namespaces, for allowedNamespaces.selector; nothing but metadata is read.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, watch]
{{- end }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* What only TaskWatchSets need. */}}
{{- define "taskwatch.rules.sets" -}}
- apiGroups: [taskwatch.dev]
  resources: [taskwatchsets]
  verbs: [list, watch]
- apiGroups: [taskwatch.dev]
  resources: [taskwatchsets/status]
  verbs: [patch]
- apiGroups: [taskwatch.dev]
  resources: [taskwatches]
  verbs: [create, update]
# Looked for where the admission plugin OwnerReferencesPermissionEnforcement runs (OpenShift).
- apiGroups: [taskwatch.dev]
  resources: [taskwatchsets/finalizers]
  verbs: [update]
{{- end }}

{{/* Credentials, certificates and identifiers that objects name: one `get` for each, never a list. */}}
{{- define "taskwatch.rules.secrets" -}}
- apiGroups: [""]
  resources: [secrets, configmaps]
  verbs: [get]
{{- end }}

{{/* Where the API server is: no connection may lead there. A list cannot be narrowed to the endpoints of one Service. */}}
{{- define "taskwatch.rules.addresses" -}}
- apiGroups: [""]
  resources: [services]
  resourceNames: [kubernetes]
  verbs: [get]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list]
{{- end }}

{{/* Who asks for metrics, and whether it may: with config.httpAuthorization. */}}
{{- define "taskwatch.rules.reviews" -}}
- apiGroups: [authentication.k8s.io]
  resources: [tokenreviews]
  verbs: [create]
- apiGroups: [authorization.k8s.io]
  resources: [subjectaccessreviews]
  verbs: [create]
{{- end }}

{{/* By which replicas agree on who does what. */}}
{{- define "taskwatch.rules.leases" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [list, create, update, delete]
{{- end }}

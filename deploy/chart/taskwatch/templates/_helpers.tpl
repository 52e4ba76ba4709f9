{{- define "taskwatch.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Of a release that is called taskwatch all names are those of deploy/. Shorter than a label, as suffixes follow. */}}
{{- define "taskwatch.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "taskwatch.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "taskwatch.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "taskwatch.selector" -}}
app.kubernetes.io/name: {{ include "taskwatch.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "taskwatch.labels" -}}
{{ include "taskwatch.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "taskwatch.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (include "taskwatch.fullname" .) }}
{{- end }}

{{- define "taskwatch.subject" -}}
- kind: ServiceAccount
  name: {{ include "taskwatch.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- define "taskwatch.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ $tag }}{{ end }}
{{- end }}

{{/* Whether all rights are Roles; empty means no. */}}
{{- define "taskwatch.scoped" -}}
{{- if and .Values.scopedNamespaces .Values.scopedRBAC }}yes{{ end }}
{{- end }}

{{/* Whether ClusterTaskConnections are served; empty means no. */}}
{{- define "taskwatch.clusterConnections" -}}
{{- if not (or .Values.scopedNamespaces .Values.config.noClusterConnections) }}yes{{ end }}
{{- end }}

{{/* Whether TaskWatchSets are served, as they are unless told otherwise; empty means no. */}}
{{- define "taskwatch.discovery" -}}
{{- if ne (toString .Values.config.discovery) "false" }}yes{{ end }}
{{- end }}

{{/* Where Secrets of ClusterTaskConnections are. */}}
{{- define "taskwatch.clusterResourceNamespace" -}}
{{ .Values.config.clusterResourceNamespace | default .Release.Namespace }}
{{- end }}

{{/* What Leases are called: as the release, since two installations in one namespace need different names. Empty for the default. */}}
{{- define "taskwatch.lease" -}}
{{- $name := include "taskwatch.fullname" . }}
{{- .Values.config.lease | default (ternary "" $name (eq $name "taskwatch")) }}
{{- end }}

{{/* Where Leases are: the part of config.lease before the slash, or that of the pod. */}}
{{- define "taskwatch.leaseNamespace" -}}
{{- $lease := include "taskwatch.lease" . }}
{{- ternary (splitList "/" $lease | first) .Release.Namespace (contains "/" $lease) }}
{{- end }}

{{- define "taskwatch.metricsPort" -}}
{{ .Values.config.httpAddress | default "[::]:8080" | splitList ":" | last }}
{{- end }}

{{- define "taskwatch.probePort" -}}
{{ .Values.config.probeAddress | default "[::]:8081" | splitList ":" | last }}
{{- end }}

{{/* Whether metrics are served by https; empty means no. */}}
{{- define "taskwatch.metricsTLS" -}}
{{- if or .Values.metricsTLS.secretName .Values.config.httpTlsCert }}yes{{ end }}
{{- end }}

{{/* How Prometheus trusts them: as it is told, else by the authority that the Secret names. */}}
{{- define "taskwatch.monitorTLS" -}}
{{- if .Values.serviceMonitor.tlsConfig }}
{{- toYaml .Values.serviceMonitor.tlsConfig }}
{{- else }}
serverName: {{ include "taskwatch.fullname" . }}.{{ .Release.Namespace }}.svc
{{- with .Values.metricsTLS.secretName }}
ca:
  secret:
    name: {{ . }}
    key: ca.crt
{{- end }}
{{- end }}
{{- end }}

{{/* The flags that are set, as the environment variables that they are, too. */}}
{{- define "taskwatch.flags" -}}
{{- range $key, $value := merge (dict "namespace" .Values.scopedNamespaces "lease" (include "taskwatch.lease" .)) .Values.config }}
{{- if not (or (kindIs "invalid" $value) (and (kindIs "slice" $value) (empty $value)) (eq (toString $value) "")) }}
- name: TASKWATCH_{{ $key | snakecase | upper }}
  {{- if kindIs "slice" $value }}
  value: {{ join "," $value | quote }}
  {{- else if kindIs "float64" $value }}
  value: {{ int64 $value | quote }}
  {{- else }}
  value: {{ $value | toString | quote }}
  {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The pod's security context; on OpenShift users and groups are given out by the cluster. */}}
{{- define "taskwatch.podSecurityContext" -}}
{{- $openshift := .Values.openshift }}
{{- if kindIs "invalid" $openshift }}{{ $openshift = .Capabilities.APIVersions.Has "security.openshift.io/v1" }}{{ end }}
{{- $context := .Values.podSecurityContext }}
{{- if $openshift }}{{ $context = omit $context "runAsUser" "runAsGroup" "fsGroup" }}{{ end }}
{{- toYaml $context }}
{{- end }}

{{/* What cannot be had, in words that say why. */}}
{{- define "taskwatch.validate" -}}
{{- if and (gt (int .Values.replicaCount) 1) (eq (toString .Values.config.leaseBuckets) "0") }}
{{- fail "replicaCount must be 0 or 1 with config.leaseBuckets 0: without a Lease, two replicas would poll every task twice" }}
{{- end }}
{{- $drain := .Values.config.drainTimeoutSeconds }}
{{- if le (int .Values.terminationGracePeriodSeconds) (ternary 8 (int $drain) (kindIs "invalid" $drain)) }}
{{- fail "terminationGracePeriodSeconds must be more than config.drainTimeoutSeconds (8 unless set): the pod would be killed while it drains" }}
{{- end }}
{{- if and .Values.metricsTLS.secretName .Values.config.httpTlsCert }}
{{- fail "metricsTLS.secretName and config.httpTlsCert are two certificates for one port: set one of them only" }}
{{- end }}
{{- if and .Values.scopedNamespaces .Values.secretAccess.allNamespaces .Values.scopedRBAC }}
{{- fail "secretAccess.allNamespaces is a right for the whole cluster, which scopedNamespaces with scopedRBAC rules out: set one of them only" }}
{{- end }}
{{- end }}

{{/* What is added to the metadata of a definition, indented. */}}
{{- define "taskwatch-crds.metadata" -}}
{{- if .Values.keep }}
  annotations:
    helm.sh/resource-policy: keep
{{- end }}
  labels:
    app.kubernetes.io/name: taskwatch
    app.kubernetes.io/instance: {{ .Release.Name | quote }}
    app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
    app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
    helm.sh/chart: {{ printf "taskwatch-crds-%s" .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{- end }}

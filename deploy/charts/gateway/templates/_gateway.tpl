{{- /* What every template starts from: values, names and labels, as YAML. */ -}}
{{- define "gateway" -}}
{{- $v := include "corten.values" . | fromYaml -}}
{{- $name := $v.name | default .Release.Name -}}
{{- $selector := dict "app" ($v.labels.app | default $name) "istio" ($v.labels.istio | default (trimPrefix "istio-" $name)) -}}
{{- $common := include "corten.labels" (dict "root" . "name" $name) | fromYaml -}}
v:
  {{- toYaml $v | nindent 2 }}
name: {{ $name }}
{{- if $v.serviceAccount.create }}
account: {{ $v.serviceAccount.name | default $name }}
{{- else }}
account: {{ $v.serviceAccount.name | default "default" }}
{{- end }}
selector:
  {{- toYaml $selector | nindent 2 }}
labels:
  {{- toYaml (mergeOverwrite (deepCopy $common) $v.labels $selector) | nindent 2 }}
{{- end -}}

{{- /* What it asks of a node, without what was taken away by a null. */ -}}
{{- define "gateway.resources" -}}
{{- $resources := dict -}}
{{- range $kind, $amounts := . -}}
{{- range $name, $amount := $amounts -}}
{{- if $amount -}}
{{- $resources = mergeOverwrite $resources (dict $kind (dict $name $amount)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

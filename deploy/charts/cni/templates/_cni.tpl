{{- /* What every template starts from, as YAML. */ -}}
{{- define "cni" -}}
{{- $v := include "corten.values" . | fromYaml -}}
v:
  {{- toYaml $v | nindent 2 }}
cluster: {{ eq (include "corten.scope" (dict "scope" $v.global.resourceScope "of" "cluster")) "yes" }}
namespaced: {{ eq (include "corten.scope" (dict "scope" $v.global.resourceScope "of" "namespace")) "yes" }}
labels:
  {{- include "corten.labels" (dict "root" . "name" "istio-cni") | nindent 2 }}
owned:
  release: {{ .Release.Name }}
  istio.io/rev: {{ $v.revision | default "default" | quote }}
  install.operator.istio.io/owning-resource: {{ $v.ownerName | default "unknown" }}
  operator.istio.io/component: Cni
{{- end -}}

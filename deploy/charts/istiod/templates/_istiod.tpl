{{- /* What every template starts from: values, names and labels of this revision, as YAML. */ -}}
{{- define "istiod" -}}
{{- $v := include "corten.values" . | fromYaml -}}
{{- $rev := ternary "" $v.revision (eq ($v.revision | default "default") "default") -}}
{{- $suffix := ternary "" (printf "-%s" $rev) (eq $rev "") -}}
{{- $local := or (not $v.istiodRemote.enabled) $v.istiodRemote.enabledLocalInjectorIstiod -}}
v:
  {{- toYaml $v | nindent 2 }}
rev: {{ $rev | default "default" | quote }}
suffix: {{ $suffix | quote }}
name: istiod{{ $suffix }}
{{- /* The pods run here, rather than in the cluster of a remote control plane. */}}
local: {{ $local }}
cluster: {{ eq (include "corten.scope" (dict "scope" $v.global.resourceScope "of" "cluster")) "yes" }}
namespaced: {{ eq (include "corten.scope" (dict "scope" $v.global.resourceScope "of" "namespace")) "yes" }}
labels:
  release: {{ .Release.Name }}
  {{- include "corten.labels" (dict "root" . "name" "istiod") | nindent 2 }}
owned:
  istio.io/rev: {{ $rev | default "default" | quote }}
  install.operator.istio.io/owning-resource: {{ $v.ownerName | default "unknown" }}
  operator.istio.io/component: Pilot
{{- end -}}

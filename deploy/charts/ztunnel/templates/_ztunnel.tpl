{{- /* What every template starts from, as YAML. What is said for all components counts where nothing is said for this one. */ -}}
{{- define "ztunnel" -}}
{{- $own := include "corten.values" . | fromYaml -}}
{{- $inherited := dict -}}
{{- range $key := list "imagePullPolicy" "imagePullSecrets" "network" "caAddress" "istioNamespace" "logAsJson" "resourceScope" "multiCluster" "platform" -}}
{{- if index $own.global $key -}}
{{- $inherited = mergeOverwrite $inherited (dict $key (index $own.global $key)) -}}
{{- end -}}
{{- end -}}
{{- $user := omit .Values "_internal_defaults_do_not_set" -}}
{{- $v := mergeOverwrite (deepCopy $own) $inherited (deepCopy (omit $user "ztunnel")) (deepCopy ($user.ztunnel | default dict)) -}}
{{- $v = mergeOverwrite $v (dict "global" $own.global) -}}
v:
  {{- toYaml $v | nindent 2 }}
name: {{ $v.resourceName | default "ztunnel" }}
cluster: {{ eq (include "corten.scope" (dict "scope" $v.resourceScope "of" "cluster")) "yes" }}
namespaced: {{ eq (include "corten.scope" (dict "scope" $v.resourceScope "of" "namespace")) "yes" }}
labels:
  {{- include "corten.labels" (dict "root" . "name" "ztunnel") | nindent 2 }}
annotations:
  {{- if $v.revision }}
  {{- toYaml (mergeOverwrite (deepCopy $v.annotations) (dict "istio.io/rev" $v.revision)) | nindent 2 }}
  {{- else }}
  {{- toYaml $v.annotations | nindent 2 }}
  {{- end }}
{{- end -}}

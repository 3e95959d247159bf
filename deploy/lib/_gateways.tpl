{{- /* What the templates of an ingress or egress gateway start from: values, names and labels, as YAML. */ -}}
{{- define "gateways" -}}
{{- $v := include "corten.values" . | fromYaml -}}
{{- $kind := trimPrefix "istio-" .Chart.Name -}}
{{- $key := printf "istio-%sgateway" $kind -}}
{{- $gateway := index $v.gateways $key -}}
{{- $rev := ternary "" $v.revision (eq ($v.revision | default "default") "default") -}}
{{- $common := include "corten.labels" (dict "root" . "name" $key) | fromYaml -}}
{{- $owned := dict "install.operator.istio.io/owning-resource" ($v.ownerName | default "unknown") "operator.istio.io/component" (ternary "IngressGateways" "EgressGateways" (eq $kind "ingress")) -}}
{{- $release := dict "release" .Release.Name "istio.io/rev" ($rev | default "default") -}}
v:
  {{- toYaml $v | nindent 2 }}
gateway:
  {{- toYaml $gateway | nindent 2 }}
kind: {{ $kind }}
key: {{ $key }}
rev: {{ $rev | quote }}
suffix: {{ ternary "" (printf "-%s" $rev) (eq $rev "") | quote }}
name: {{ $gateway.name | default $key }}
account: {{ $gateway.name | default $key }}-service-account
{{- /* Labels that select the pods, those of all objects, and those of objects that say which gateway they are. */}}
selector:
  {{- toYaml $gateway.labels | nindent 2 }}
common:
  {{- toYaml (mergeOverwrite (deepCopy $common) $owned $release) | nindent 2 }}
labels:
  {{- toYaml (mergeOverwrite (deepCopy $common) $owned $release $gateway.labels) | nindent 2 }}
{{- /* Of pods. Those in istio-system always had some more, by which people look for them. */}}
pod:
  {{- $pod := mergeOverwrite (deepCopy $common) $owned $gateway.labels -}}
  {{- $pod = mergeOverwrite $pod (dict "service.istio.io/canonical-name" ($gateway.name | default $key) "service.istio.io/canonical-revision" (coalesce (index $gateway.labels "app.kubernetes.io/version") (index $gateway.labels "version") $rev "latest")) -}}
  {{- if eq .Release.Namespace "istio-system" -}}
  {{- $pod = mergeOverwrite $pod (dict "heritage" "Tiller" "release" "istio" "chart" "gateways") -}}
  {{- end -}}
  {{- toYaml $pod | nindent 2 }}
{{- end -}}

{{- /* What a component asks of a node, without what was taken away by a null. */ -}}
{{- define "gateways.resources" -}}
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

{{- /* Where the pods run: {gateway, global}. */ -}}
{{- define "gateways.affinity" -}}
{{- $must := list -}}
{{- $should := list -}}
{{- $archs := list -}}
{{- range $arch, $weight := .global.arch -}}
{{- if gt (int $weight) 0 -}}
{{- $archs = append $archs $arch -}}
{{- $term := dict "key" "kubernetes.io/arch" "operator" "In" "values" (list $arch) -}}
{{- $should = append $should (dict "weight" (int $weight) "preference" (dict "matchExpressions" (list $term))) -}}
{{- end -}}
{{- end -}}
{{- if .global.arch -}}
{{- $must = append $must (dict "key" "kubernetes.io/arch" "operator" "In" "values" $archs) -}}
{{- end -}}
{{- range $key, $value := (.gateway.nodeSelector | default .global.defaultNodeSelector) -}}
{{- $must = append $must (dict "key" $key "operator" "In" "values" (list ($value | toString))) -}}
{{- end -}}
{{- $node := dict -}}
{{- if $must -}}
{{- $node = mergeOverwrite $node (dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" (list (dict "matchExpressions" $must)))) -}}
{{- end -}}
{{- if $should -}}
{{- $node = mergeOverwrite $node (dict "preferredDuringSchedulingIgnoredDuringExecution" $should) -}}
{{- end -}}
{{- $apart := dict -}}
{{- $hard := list -}}
{{- range $item := .gateway.podAntiAffinityLabelSelector -}}
{{- $hard = append $hard (include "gateways.apart" $item | fromYaml) -}}
{{- end -}}
{{- $soft := list -}}
{{- range $item := .gateway.podAntiAffinityTermLabelSelector -}}
{{- $soft = append $soft (dict "weight" 100 "podAffinityTerm" (include "gateways.apart" $item | fromYaml)) -}}
{{- end -}}
{{- if $hard -}}
{{- $apart = mergeOverwrite $apart (dict "requiredDuringSchedulingIgnoredDuringExecution" $hard) -}}
{{- end -}}
{{- if $soft -}}
{{- $apart = mergeOverwrite $apart (dict "preferredDuringSchedulingIgnoredDuringExecution" $soft) -}}
{{- end -}}
{{- $affinity := dict -}}
{{- if $node -}}{{- $affinity = mergeOverwrite $affinity (dict "nodeAffinity" $node) -}}{{- end -}}
{{- if $apart -}}{{- $affinity = mergeOverwrite $affinity (dict "podAntiAffinity" $apart) -}}{{- end -}}
{{- toYaml $affinity -}}
{{- end -}}

{{- /* One entry of podAntiAffinity...Selector: key, operator, values (joined by commas), topologyKey, namespaces (likewise). */ -}}
{{- define "gateways.apart" -}}
labelSelector:
  matchExpressions:
    - key: {{ .key | quote }}
      operator: {{ .operator }}
      {{- with .values }}
      values: {{ splitList "," . | toJson }}
      {{- end }}
topologyKey: {{ .topologyKey | quote }}
{{- with .namespaces }}
namespaces: {{ splitList "," . | toJson }}
{{- end }}
{{- end -}}

{{- /*
Which pods get a proxy as they are made, as entries of a MutatingWebhookConfiguration: {c, namespace, name, default, active}. `name` is
what namespaces and pods say to choose this control plane; `default`: those that name nobody are its own, too. What is not active
stays, and no pod is meant by it. The rules are Istio's.
*/ -}}
{{- define "istiod.injectors" -}}
{{- $in := . -}}
{{- $v := .c.v -}}
{{- $here := dict "key" "istio.io/rev" "operator" "In" "values" (list .name) -}}
{{- $noRevision := dict "key" "istio.io/rev" "operator" "DoesNotExist" -}}
{{- $noInjection := dict "key" "istio-injection" "operator" "DoesNotExist" -}}
{{- $enabled := dict "key" "istio-injection" "operator" "In" "values" (list "enabled") -}}
{{- $notRefused := dict "key" "sidecar.istio.io/inject" "operator" "NotIn" "values" (list "false") -}}
{{- $asked := dict "key" "sidecar.istio.io/inject" "operator" "In" "values" (list "true") -}}
{{- $silent := dict "key" "sidecar.istio.io/inject" "operator" "DoesNotExist" -}}
{{- $entries := list
      (dict "name" "rev.namespace" "namespaces" (list $here $noInjection) "pods" (list $notRefused))
      (dict "name" "rev.object" "namespaces" (list $noRevision $noInjection) "pods" (list $notRefused $here))
-}}
{{- if .default -}}
{{- $entries = append $entries (dict "name" "namespace" "namespaces" (list $enabled) "pods" (list $notRefused)) -}}
{{- $entries = append $entries (dict "name" "object" "namespaces" (list $noInjection $noRevision) "pods" (list $asked $noRevision)) -}}
{{- if $v.sidecarInjectorWebhook.enableNamespacesByDefault -}}
{{- $own := dict "key" "kubernetes.io/metadata.name" "operator" "NotIn" "values" (list "kube-system" "kube-public" "kube-node-lease" "local-path-storage") -}}
{{- $entries = append $entries (dict "name" "auto" "namespaces" (list $noInjection $noRevision $own) "pods" (list $silent $noRevision)) -}}
{{- end -}}
{{- end -}}
{{- $never := list (dict "key" "istio.io/deactivated" "operator" "In" "values" (list "never-match")) -}}
{{- range $entry := $entries }}
- name: {{ $entry.name }}.sidecar-injector.istio.io
  clientConfig:
    {{- if $v.istiodRemote.injectionURL }}
    url: {{ $v.istiodRemote.injectionURL | quote }}
    {{- else }}
    service:
      name: {{ $in.c.name }}
      namespace: {{ $in.namespace | quote }}
      path: {{ $v.istiodRemote.injectionPath | quote }}
      port: 443
    {{- end }}
    {{- with $v.istiodRemote.injectionCABundle }}
    caBundle: {{ . | quote }}
    {{- end }}
  rules:
    - operations: [CREATE]
      apiGroups: [""]
      apiVersions: [v1]
      resources: [pods]
  namespaceSelector:
    matchExpressions: {{ toJson (ternary $entry.namespaces $never $in.active) }}
  objectSelector:
    matchExpressions: {{ toJson (ternary $entry.pods $never $in.active) }}
  # A pod of the mesh that started without its proxy would be outside, in plaintext.
  failurePolicy: Fail
  reinvocationPolicy: {{ $v.sidecarInjectorWebhook.reinvocationPolicy }}
  sideEffects: None
  admissionReviewVersions: [v1]
{{- end }}
{{- end -}}

{{- /*
What all charts share. The charts' values.yaml hold their defaults under a key of their own, so that a profile can come
between them and what the user says: defaults, profile, platform, user, the latter ones first. What is for one chart may stand
at the top, as in that chart's own values, or under the name it has in the values of `corten install`.
*/ -}}

{{- define "corten.values" -}}
{{- $component := get (dict "istiod" "pilot" "cni" "cni" "ztunnel" "ztunnel") .Chart.Name -}}
{{- $user := omit .Values "_internal_defaults_do_not_set" -}}
{{- $global := $user.global | default dict -}}
{{- $values := deepCopy .Values._internal_defaults_do_not_set -}}
{{- $platform := coalesce $user.platform $global.platform | default "" -}}
{{- $overlays := list -}}
{{- range $name := list (coalesce $user.profile $global.profile | default "") (ternary (printf "platform-%s" $platform) "" (ne $platform "")) -}}
{{- if $name -}}
{{- $text := $.Files.Get (printf "files/profile-%s.yaml" $name) -}}
{{- if not $text -}}{{- fail (printf "unknown profile %s" $name) -}}{{- end -}}
{{- $overlays = append $overlays (fromYaml $text) -}}
{{- end -}}
{{- end -}}
{{- range $overlay := append $overlays $user -}}
{{- if $component -}}
{{- $values = mergeOverwrite $values (deepCopy (get $overlay $component | default dict)) -}}
{{- end -}}
{{- $values = mergeOverwrite $values (deepCopy (omit $overlay $component)) -}}
{{- end -}}
{{- toYaml $values -}}
{{- end -}}

{{- /* The labels of everything: {root, name}. */ -}}
{{- define "corten.labels" -}}
app.kubernetes.io/name: {{ .name | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/part-of: "istio"
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | quote }}
{{- end -}}

{{- /* The image of a component: {root, values}; a name with a slash is the whole name. */ -}}
{{- define "corten.image" -}}
{{- $global := .values.global | default dict -}}
{{- if contains "/" .values.image -}}
{{ .values.image }}
{{- else -}}
{{- $variant := coalesce .values.variant $global.variant | default "" -}}
{{- $tag := coalesce .values.tag $global.tag .root.Chart.AppVersion | toString -}}
{{- $hub := coalesce .values.hub $global.hub -}}
{{- printf "%s/%s:%s" $hub .values.image $tag -}}
{{- if and $variant (not (hasSuffix (printf "-%s" $variant) $tag)) -}}{{- printf "-%s" $variant -}}{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Names of Secrets to pull images with, as ServiceAccounts have them. */ -}}
{{- define "corten.pullSecrets" -}}
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end -}}

{{- /* Which objects are wanted: {scope, of}: those of the whole cluster, or of a namespace. */ -}}
{{- define "corten.scope" -}}
{{- if or (eq .scope "all") (eq .scope .of) -}}yes{{- end -}}
{{- end -}}

{{- /*
What asks the control plane about objects: {root, base, service, namespace, name, selector, upgrade}. The control plane's own
namespace is never blocked by a control plane that is away: the second entry stays open.
*/ -}}
{{- define "corten.validators" -}}
{{- $c := . -}}
{{- range $system := list false true }}
- name: {{ ternary "system." "" $system }}{{ $c.name }}
  clientConfig:
    {{- if $c.base.validationURL }}
    url: {{ $c.base.validationURL | quote }}
    {{- else }}
    service:
      name: {{ $c.service }}
      namespace: {{ $c.namespace | quote }}
      path: /validate
    {{- end }}
    {{- with $c.base.validationCABundle }}
    caBundle: {{ . | quote }}
    {{- end }}
  rules:
    - operations: [CREATE, UPDATE]
      apiGroups:
        - security.istio.io
        - networking.istio.io
        - telemetry.istio.io
        - extensions.istio.io
        - gateway.networking.k8s.io
      apiVersions: ["*"]
      resources: ["*"]
      {{- if $system }}
      scope: Namespaced
      {{- end }}
  namespaceSelector:
    matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: {{ ternary "In" "NotIn" $system }}
        values: [{{ $c.namespace | quote }}]
  objectSelector:
    matchExpressions:
      - {{ toJson $c.selector }}
  {{- if $system }}
  failurePolicy: Ignore
  {{- else if $c.base.validationCABundle }}
  # The authority is given, so nobody changes this later.
  failurePolicy: Fail
  {{- else if $c.base.validationFailurePolicy }}
  failurePolicy: {{ $c.base.validationFailurePolicy }}
  {{- else if not $c.upgrade }}
  # Until the control plane answers, objects pass unchecked; it turns this to Fail, and fills in its authority.
  failurePolicy: Ignore
  {{- end }}
  sideEffects: None
  admissionReviewVersions: [v1]
{{- end }}
{{- end -}}

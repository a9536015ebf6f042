{{/* Templates that say "instance" take a dict with the root and i, the values of one instance. */}}

{{- define "postern.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (default .Chart.Name .Values.nameOverride) .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (default .Chart.Name .Values.nameOverride) -}}
{{- end -}}
{{- end -}}

{{/* The name of an instance. A StatefulSet's may have 52 characters, since Kubernetes adds eleven to it in a label. */}}
{{- define "postern.instance" -}}
{{- $name := printf "%s-%s" (include "postern.fullname" .root) .i.name -}}
{{- if gt (len $name) 52 -}}
{{- fail (printf "postern: the name %s is longer than 52 characters; set fullnameOverride" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "postern.releaseLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* What an instance's pod is selected by. */}}
{{- define "postern.selector" -}}
{{ include "postern.releaseLabels" .root }}
app.kubernetes.io/component: {{ .i.name }}
{{- end -}}

{{- define "postern.labels" -}}
{{ include "postern.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "postern.secretName" -}}
{{- default (include "postern.instance" .) .i.secret.name -}}
{{- end -}}

{{/* The value of an instance's configuration at a path, as JSON; empty if it is not set. */}}
{{- define "postern.at" -}}
{{- $node := .config -}}
{{- range splitList "." .path -}}
{{- if and (kindIs "map" $node) (hasKey $node .) -}}
{{- $node = index $node . -}}
{{- else -}}
{{- $node = dict "postern.missing" true -}}
{{- end -}}
{{- end -}}
{{- if not (and (kindIs "map" $node) (hasKey $node "postern.missing")) -}}
{{- $node | toJson -}}
{{- end -}}
{{- end -}}

{{/* What an instance is called in the configuration. */}}
{{- define "postern.bridgeName" -}}
{{- . | replace "-" "_" -}}
{{- end -}}

{{/* Fails on what cannot work, in a sentence. */}}
{{- define "postern.check" -}}
{{- $i := .i -}}
{{- range list "env_config_prefix" "appservice.hostname" "appservice.port" "network.public.address" "network.metrics.enabled" "network.metrics.address" "network.key_file" "network.epoch_file" "network.media.path" "network.media.spool" -}}
{{- if include "postern.at" (dict "config" $i.config "path" .) -}}
{{- fail (printf "postern: instance %s: config.%s is set by the chart; leave it out" $i.name .) -}}
{{- end -}}
{{- if hasKey $i.secret.keys . -}}
{{- fail (printf "postern: instance %s: secret.keys: %s is set by the chart; leave it out" $i.name .) -}}
{{- end -}}
{{- end -}}
{{- if .root.Values.divided.enabled -}}
{{- range list "network.instances.name" "network.instances.all" "network.instances.key_file" "network.instances.address" -}}
{{- if include "postern.at" (dict "config" $i.config "path" .) -}}
{{- fail (printf "postern: instance %s: config.%s is set by the chart; leave it out" $i.name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $path, $key := $i.secret.keys -}}
{{- if include "postern.at" (dict "config" $i.config "path" $path) -}}
{{- fail (printf "postern: instance %s: %s stands in config and in secret.keys; leave one out" $i.name $path) -}}
{{- end -}}
{{- end -}}
{{- $postgres := eq (include "postern.at" (dict "config" $i.config "path" "database.type")) "\"postgres\"" -}}
{{- $uri := or (include "postern.at" (dict "config" $i.config "path" "database.uri")) (hasKey $i.secret.keys "database.uri") -}}
{{- if and $postgres (not $uri) -}}
{{- fail (printf "postern: instance %s: database.type is postgres, so database.uri has to be in secret.keys" $i.name) -}}
{{- end -}}
{{- if and $uri (not $postgres) -}}
{{- fail (printf "postern: instance %s: database.uri is for database.type postgres; where SQLite's file lies is set by the chart" $i.name) -}}
{{- end -}}
{{- if and $i.metrics.enabled (not (hasKey $i.secret.keys "network.metrics.token")) -}}
{{- fail (printf "postern: instance %s: metrics.enabled needs a token: name the Secret's key under network.metrics.token in secret.keys" $i.name) -}}
{{- end -}}
{{- if and $i.metrics.serviceMonitor.enabled (not $i.metrics.enabled) -}}
{{- fail (printf "postern: instance %s: metrics.serviceMonitor needs metrics.enabled" $i.name) -}}
{{- end -}}
{{- if and $i.ingress.enabled (not (include "postern.at" (dict "config" $i.config "path" "network.public.base"))) -}}
{{- fail (printf "postern: instance %s: ingress.enabled needs config.network.public.base" $i.name) -}}
{{- end -}}
{{- end -}}

{{/* The configuration file of an instance. */}}
{{- define "postern.config" -}}
{{- include "postern.check" . -}}
{{- $keyFile := "/data/postern.key" -}}
{{- if .i.secret.keyFile -}}
{{- $keyFile = "/run/key/postern.key" -}}
{{- end -}}
{{- $address := printf "http://%s-private.%s.svc:29340" (include "postern.instance" .) .root.Release.Namespace -}}
{{- $config := mustMergeOverwrite (dict "appservice" (dict "address" $address)) (deepCopy .i.config) -}}
{{- $own := dict "env_config_prefix" "POSTERN_" "appservice" (dict "hostname" "0.0.0.0" "port" 29340) "network" (dict "public" (dict "address" "0.0.0.0:29341") "key_file" $keyFile "epoch_file" "/epoch/postern.epoch" "media" (dict "path" "/data/media" "spool" "/spool/files") "metrics" (dict "enabled" .i.metrics.enabled "address" "0.0.0.0:29342")) -}}
{{- if .root.Values.divided.enabled -}}
{{- $all := list -}}
{{- range .root.Values.instances -}}
{{- $all = append $all (include "postern.bridgeName" .name) -}}
{{- end -}}
{{- $reached := printf "http://%s-public.%s.svc:29341" (include "postern.instance" .) .root.Release.Namespace -}}
{{- $_ := set $own.network "instances" (dict "name" (include "postern.bridgeName" .i.name) "all" $all "key_file" "/run/key/instances.key" "address" $reached) -}}
{{- end -}}
{{- if not .i.metrics.enabled -}}
{{- $_ := unset $own.network "metrics" -}}
{{- end -}}
{{- if ne (include "postern.at" (dict "config" .i.config "path" "database.type")) "\"postgres\"" -}}
{{- $_ := set $own "database" (dict "uri" "file:/data/postern.db?_txlock=immediate") -}}
{{- end -}}
{{- mustMergeOverwrite $config $own | toYaml -}}
{{- end -}}

{{/* The ports that the bridge has to get out to, one a line. */}}
{{- define "postern.egressPorts" -}}
{{- $config := .i.config -}}
{{- $ports := .i.networkPolicy.egressPorts -}}
{{- if .root.Values.divided.enabled -}}
{{- $ports = append $ports 29341 -}}
{{- end -}}
{{- range list "homeserver.address" "network.media.s3.endpoint" "network.identifier.smtp.address" -}}
{{- $text := include "postern.at" (dict "config" $config "path" .) | trimAll "\"" -}}
{{- if $text -}}
{{- $port := regexFind ":[0-9]+(/|$)" $text | trimPrefix ":" | trimSuffix "/" -}}
{{- if $port -}}
{{- $ports = append $ports (int $port) -}}
{{- else if hasPrefix "http://" $text -}}
{{- $ports = append $ports 80 -}}
{{- else -}}
{{- $ports = append $ports 443 -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $ports | uniq -}}
{{ int . }}{{ "\n" }}
{{- end -}}
{{- end -}}

{{/* Fails where two instances would get in each other's way. */}}
{{- define "postern.apart" -}}
{{- $root := . -}}
{{- $taken := dict -}}
{{- $bases := list -}}
{{- range $instance := .Values.instances -}}
{{- $merged := mustMergeOverwrite (deepCopy (omit $root.Values "instances")) $instance -}}
{{- $bases = append $bases (include "postern.at" (dict "config" $merged.config "path" "network.public.base")) -}}
{{- end -}}
{{- if and .Values.divided.enabled (gt (len (uniq $bases)) 1) -}}
{{- fail "postern: divided instances have one network.public.base" -}}
{{- end -}}
{{- range $instance := .Values.instances -}}
{{- $i := mustMergeOverwrite (deepCopy (omit $root.Values "instances")) $instance -}}
{{- $of := dict "name" $i.name "secret" (include "postern.secretName" (dict "root" $root "i" $i)) -}}
{{- range list "appservice.id" "appservice.bot.username" "appservice.username_template" "network.media.s3.prefix" -}}
{{- $_ := set $of . (include "postern.at" (dict "config" $i.config "path" .)) -}}
{{- end -}}
{{- range $what, $value := $of -}}
{{- $s3 := eq (include "postern.at" (dict "config" $i.config "path" "network.media.store")) "\"s3\"" -}}
{{- $id := printf "%s: %s" $what $value -}}
{{- if or $s3 (ne $what "network.media.s3.prefix") -}}
{{- if hasKey $taken $id -}}
{{- fail (printf "postern: the instances %s and %s have the same %s; each needs its own" (get $taken $id) $i.name $what) -}}
{{- end -}}
{{- $_ := set $taken $id $i.name -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

// The definition of a ServiceMonitor, which the Helm chart is held against; no code is built of it.
module postern/bridge/parts/servicemonitor

go 1.24.0

require github.com/prometheus-operator/prometheus-operator v0.85.0

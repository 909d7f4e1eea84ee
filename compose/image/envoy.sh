#!/bin/bash
# Envoy with the bootstrap that bootstrap.sh wrote, and a listener for probes and metrics: envoy.sh FILE FLAGS...
set -euo pipefail
file=$1
shift
exec envoy -c "$file" --config-yaml "$(cat "$(dirname "$0")/probes.yaml")" "$@"

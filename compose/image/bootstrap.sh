#!/bin/bash
# Writes Envoy's bootstrap to a file: bootstrap.sh FILE FLAGS..., the flags of `attache envoy`.
set -euo pipefail
file=$1
shift
attache envoy "$@" >"$file.partial"
mv "$file.partial" "$file"

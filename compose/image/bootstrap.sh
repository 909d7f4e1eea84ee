#!/bin/bash
# Writes Envoy's bootstrap to a file: bootstrap.sh FILE FLAGS..., the flags of `attache envoy`. The files by which Envoy finds
# its certificates are put beside it.
set -euo pipefail
file=$1
shift
ATTACHE_SDS_DIR=${ATTACHE_SDS_DIR:-${file%/*}} attache envoy "$@" >"$file.partial"
mv "$file.partial" "$file"

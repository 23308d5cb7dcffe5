#!/usr/bin/env bash
# The whole path on a synthetic corpus, with a report: bash launch/demo.sh [arguments of `nlm demo`]
# Needs the plain installation alone (no torch). Runs on 8 fake CPU devices unless JAX_PLATFORMS is set.
set -euo pipefail
# shellcheck source=launch/_venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/_venv.sh"
ensure_venv ""
export JAX_PLATFORMS="${JAX_PLATFORMS:-cpu}"
if [[ "${XLA_FLAGS:-}" != *xla_force_host_platform_device_count* ]]; then
  export XLA_FLAGS="${XLA_FLAGS:+$XLA_FLAGS }--xla_force_host_platform_device_count=8"
fi
# Every step allocates and frees some 300 MB of activations in small pieces; huge pages save a sixth of its time on Linux.
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"
exec "$VENV_PYTHON" -m nlm_jax.cli demo "$@"

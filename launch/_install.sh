#!/usr/bin/env bash
# Installs this checkout into .venv on a rented machine, for tpu_vm.sh and sky.yaml: _install.sh tpu|cuda
# Their images come with a Python older than ours, so uv brings its own.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
export PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null 2>&1 || curl -LsSf https://astral.sh/uv/install.sh | sh
[ -x .venv/bin/python ] || uv venv --python 3.12 .venv
uv pip install --python .venv/bin/python --editable ".[$1,bucket]"

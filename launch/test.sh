#!/usr/bin/env bash
# The whole test suite in its own virtual environment: bash launch/test.sh [pytest arguments]
# Tests that take minutes are marked slow and left out; `bash launch/test.sh -m slow` runs those.
set -euo pipefail
# shellcheck source=launch/_venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/_venv.sh"
ensure_venv test
cd -- "$ROOT"
if [ $# -eq 0 ]; then # the whole suite: a worker a core, up to four; a file's tests stay together, as they share fixtures
  set -- -n "$("$VENV_PYTHON" -c 'import os; print(min(4, os.cpu_count() or 1))')" --dist loadfile --no-loadscope-reorder
fi
exec "$VENV_PYTHON" -m pytest "$@"

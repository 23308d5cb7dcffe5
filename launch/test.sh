#!/usr/bin/env bash
# The whole test suite in its own virtual environment: bash launch/test.sh [pytest arguments]
# Tests that take minutes are marked slow and left out; `bash launch/test.sh -m slow` runs those.
set -euo pipefail
# shellcheck source=launch/_venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/_venv.sh"
ensure_venv test
cd -- "$ROOT"
exec "$VENV_PYTHON" -m pytest "$@"

# shellcheck shell=bash
# Sourced by test.sh and demo.sh. Makes or reuses the virtual environment in the repository's root and installs the package into
# it. Afterwards $VENV_PYTHON is its interpreter and $ROOT the repository.
#
# A stamp per extra holds a digest of what decides the installation (setup.py, pyproject.toml, the path of the repository, and
# Python's version), so that a second run installs nothing and a changed setup.py installs again.
#
# PYTHON=... chooses the interpreter, NLM_VENV=... another place for the environment.

# What the caller's shell has set up for another project must not leak in.
unset PYTHONPATH PYTHONHOME

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${NLM_VENV:-$ROOT/.venv}"
VENV_PYTHON="$VENV/bin/python"

die() {
  printf '%s\n' "$*" >&2
  exit 2
}

supported() {
  "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python; do
    if supported "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
    [ "$candidate" != "${PYTHON:-}" ] || die "PYTHON=$PYTHON does not run or is older than 3.11; nlm_jax needs Python 3.11 or newer"
  done
  die "there is no Python 3.11 or newer (tried python3, python3.13, python3.12, python3.11); install one, or name it with PYTHON=/path/to/python3"
}

make_venv() {
  local python
  python="$(find_python)"
  echo "creating a virtual environment in $VENV with $("$python" --version 2>&1)"
  if "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    "$python" -m venv --clear "$VENV"
  else # Debian and Ubuntu ship ensurepip apart from Python; pip can fill the environment from outside
    "$python" -m venv --clear --without-pip "$VENV" || die "$python has no venv module; install it (Debian, Ubuntu: apt install python3-venv)"
    "$python" -m pip --python "$VENV_PYTHON" install --quiet pip ||
      die "$python has neither ensurepip nor pip >= 22.3; install one (Debian, Ubuntu: apt install python3-venv)"
  fi
}

digest() {
  "$VENV_PYTHON" - "$ROOT" <<'PY'
import hashlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
parts = [(root / name).read_bytes() for name in ("setup.py", "pyproject.toml")]
print(hashlib.sha256(b"\0".join([*parts, str(root).encode(), sys.version.encode()])).hexdigest())
PY
}

# ensure_venv EXTRA: an installation with that extra ("" = the plain one, which any extra's installation also serves).
ensure_venv() {
  local extra="$1" now
  if command -v flock >/dev/null 2>&1; then # two first runs at once: the second waits for the first
    exec 9>"$VENV.lock"
    flock 9
  fi
  usable || make_venv
  now="$(digest)"
  if ! installed "$extra" "$now"; then
    echo "installing nlm_jax${extra:+[$extra]} into $VENV (the first time takes some minutes)"
    (cd -- "$ROOT" && "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check --editable ".${extra:+[$extra]}") ||
      die "pip could not install nlm_jax${extra:+[$extra]}; see its message above"
    printf '%s\n' "$now" >"$VENV/.nlm-installed-${extra:-plain}"
  fi
  exec 9>&-
}

# A working environment that is not of another Python than the one asked for by PYTHON.
usable() {
  supported "$VENV_PYTHON" && "$VENV_PYTHON" -m pip --version >/dev/null 2>&1 || return 1
  [ -z "${PYTHON:-}" ] || [ "$("$PYTHON" --version 2>&1)" = "$("$VENV_PYTHON" --version 2>&1)" ]
}

installed() {
  local stamp stamps=("$VENV"/.nlm-installed-*)
  [ -z "$1" ] || stamps=("$VENV/.nlm-installed-$1")
  for stamp in "${stamps[@]}"; do
    if [ -f "$stamp" ] && [ "$(cat -- "$stamp")" = "$2" ]; then
      return 0
    fi
  done
  return 1
}

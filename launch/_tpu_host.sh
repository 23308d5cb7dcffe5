#!/usr/bin/env bash
# Runs on each host of a TPU slice, for tpu_vm.sh: install | start ARGUMENTS OF NLM | follow
# A systemd service outlives the connection, and at a shutdown gets SIGTERM and then time to save.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
UNIT=nlm-train

active() { systemctl is-active --quiet "$UNIT"; }

step="$1"
shift
case "$step" in
  install) # not under a training that runs
    active || bash launch/_install.sh tpu
    ;;
  start)
    if active; then
      echo "training already runs here and continues"
      exit 0
    fi
    sudo systemctl reset-failed "$UNIT" 2>/dev/null || true # of a run before this one
    # mixed: SIGTERM to nlm alone, since a second one would end it unsaved. The driver locks memory for its transfers. $$ is
    # systemd's way to write $.
    sudo systemd-run "--unit=$UNIT" "--uid=$(id -u)" "--working-directory=$PWD" "--setenv=HOME=$HOME" \
      --property=KillMode=mixed --property=TimeoutStopSec=180 --property=LimitMEMLOCK=infinity "$PWD/.venv/bin/nlm" \
      "${@//\$/\$\$}"
    ;;
  follow)
    sudo journalctl --follow --lines=100 --output=cat "--unit=$UNIT" &
    trap 'kill $! 2>/dev/null || true' EXIT
    while active; do sleep "${NLM_POLL:-10}"; done
    # A host that shuts down has stopped the service in good order; that is not the end of training.
    [ "$(systemctl is-system-running)" != stopping ] && ! systemctl is-failed --quiet "$UNIT"
    ;;
  *)
    echo "unknown step $step; use install, start or follow" >&2
    exit 2
    ;;
esac

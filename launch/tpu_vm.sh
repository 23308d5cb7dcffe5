#!/usr/bin/env bash
# A slice of TPU VMs, made or used again, and `nlm train` on every host of it. See usage() below.
set -euo pipefail
# shellcheck source=launch/_job.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/_job.sh"

usage() {
  cat <<'TEXT'
bash launch/tpu_vm.sh --config=configs/stage1.py --workdir=gs://bucket/run --topology=v5e:4x4 --zone=ZONE
                      [--project=PROJECT] [--name=NAME] [--spot] [--dry-run] [-- --config.seed=1 ...]

Asks for the slice as a queued resource, waits for it, installs this checkout on every host and trains. Training belongs to
systemd there, so Ctrl-C and a closed laptop end only the log on the screen; rerun the same command to resume it.
With --spot, a preempted slice is requested again for as long as this runs, and training resumes from --workdir.
--topology: v5e:4x4, v5p:4x4x8, v6e:8x8, ...; a wrong one lists all. --dry-run prints the commands of a first run.
TEXT
}

FLAGS="$FLAGS zone project" SWITCHES="$SWITCHES spot"
zone="" project="" spot=""
parse "$@"
required config workdir topology zone
arguments_of_train shared
tpu_topology
need gcloud "the Google Cloud CLI"

at=("--zone=$zone" ${project:+"--project=$project"})
archive="$ROOT/dist/nlm_jax.tar.gz"

queued() {
  local verb="$1"
  shift
  run gcloud compute tpus queued-resources "$verb" "$name" "${at[@]}" "$@"
}

# Empty if there is none.
state() {
  gcloud compute tpus queued-resources describe "$name" "${at[@]}" "--format=value(state.state)" 2>/dev/null || true
}

make_slice() {
  local now=""
  [ -n "$dry_run" ] || now="$(state)"
  case "$now" in # a request that failed, or whose machines were preempted, keeps its name until it is deleted
    FAILED | SUSPENDED | SUSPENDING) queued delete --force --quiet && now="" ;;
  esac
  if [ -z "$now" ]; then
    queued create "--node-id=$name" "--accelerator-type=$accelerator_type" "--runtime-version=$runtime_version" \
      ${spot:+--spot}
  fi
  [ -z "$dry_run" ] || return 0
  while now="$(state)" && [ "$now" != ACTIVE ]; do
    case "$now" in
      FAILED | SUSPENDED) echo "no slice: the request $name is $now" >&2 && exit 1 ;;
    esac
    echo "waiting for $accelerator_type: ${now:-requested}" >&2
    sleep "${NLM_POLL:-30}"
  done
}

# on WORKERS STEP ARGUMENTS...: a step of _tpu_host.sh there.
on() {
  local workers="$1"
  shift
  run gcloud compute tpus tpu-vm ssh "$name" "${at[@]}" "--worker=$workers" \
    "--command=$(quoted bash "$name/launch/_tpu_host.sh" "$@")"
}

while :; do
  make_slice
  run mkdir -p "$ROOT/dist"
  run tar -czf "$archive" -C "$ROOT" --exclude=__pycache__ setup.py pyproject.toml README.md LICENSE nlm_jax configs launch
  run gcloud compute tpus tpu-vm scp "$archive" "$name:" "${at[@]}" --worker=all
  run gcloud compute tpus tpu-vm ssh "$name" "${at[@]}" --worker=all \
    "--command=mkdir -p $name && tar -xzf nlm_jax.tar.gz -C $name"
  on all install
  on all start "${TRAIN[@]}"
  if on 0 follow; then break; fi
  if [ -z "$spot" ] || [ "$(state)" = ACTIVE ]; then
    echo "training on $name ended with an error, or the connection did; rerun the same command to resume" >&2
    exit 1
  fi
  echo "$name was preempted; requesting another" >&2
done
# Machines cost money until they are deleted, and only their owner knows whether they are still wanted.
[ -n "$dry_run" ] || printf 'finished; to delete the slice: %s\n' \
  "$(quoted gcloud compute tpus queued-resources delete "$name" "${at[@]}" --force)" >&2

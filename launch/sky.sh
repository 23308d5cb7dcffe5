#!/usr/bin/env bash
# `nlm train` on rented TPUs or GPUs through SkyPilot, as a managed job. See usage() below.
set -euo pipefail
# shellcheck source=launch/_job.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/_job.sh"

usage() {
  cat <<'TEXT'
bash launch/sky.sh --config=configs/stage1.py --workdir=gs://bucket/run --topology=v6e:4x4
                   [--name=NAME] [--infra=CLOUD/REGION/ZONE] [--spot] [--dry-run] [-- --config.seed=1 ...]

Starts launch/sky.yaml with `sky jobs launch`, which restarts the job elsewhere if its machines are preempted.
--topology: a TPU slice such as v5e:4x4, or GPUs as KIND:NODESxGPUS, such as H100:2x8. --dry-run prints the command.
TEXT
}

FLAGS="$FLAGS infra" SWITCHES="$SWITCHES spot"
infra="" spot=""
parse "$@"
required config workdir topology
arguments_of_train bucket
if [[ "$topology" =~ ^v[0-9][a-z]*: ]]; then
  tpu_topology
  nodes=1 gpus="tpu-$accelerator_type" # a slice is one node to SkyPilot, which runs the task on each of its hosts
else
  gpu_topology
  [ -n "$gpu" ] || die "--topology=$topology: name the kind of GPU, such as H100:$topology"
  gpus="$gpu:$gpus"
fi
need sky "pip install skypilot"

overrides=""
if [ ${#EXTRA[@]} -gt 0 ]; then overrides="$(quoted "${EXTRA[@]}")"; fi
cd -- "$ROOT" # what the task calls its workdir
run sky jobs launch "--name=$name" "--gpus=$gpus" "--num-nodes=$nodes" ${infra:+"--infra=$infra"} \
  "$([ -n "$spot" ] && echo --use-spot || echo --no-use-spot)" "--env=NLM_CONFIG=$config" "--env=NLM_WORKDIR=$workdir" \
  ${overrides:+"--env=NLM_OVERRIDES=$overrides"} --yes launch/sky.yaml

#!/usr/bin/env bash
# `nlm train` on GPU nodes of a Slurm cluster. See usage() below.
set -euo pipefail
# shellcheck source=launch/_job.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/_job.sh"

usage() {
  cat <<'TEXT'
bash launch/slurm.sh --config=configs/stage1.py --workdir=/shared/run --topology=2x8
                     [--name=NAME] [--partition=P] [--account=A] [--time=T] [--cpus=N] [--dry-run] [-- --config.seed=1 ...]

Submits launch/slurm.sbatch from a login node; this checkout must lie on a disk that the nodes see. Makes .venv with the CUDA
wheels on first use. --topology is NODESxGPUS, with the cluster's name for the GPU if it has several kinds: h100:2x8.
--cpus is per GPU. Anything else of sbatch comes from its SBATCH_... variables. Shortly before the time limit the run saves and
queues itself again. --dry-run prints the commands.
TEXT
}

FLAGS="$FLAGS partition account time cpus"
partition="" account="" time="" cpus=""
parse "$@"
required config workdir topology
arguments_of_train shared
gpu_topology
[[ "${cpus:-1}" =~ ^[1-9][0-9]*$ ]] || die "--cpus=$cpus: give a number of cores per GPU"
need sbatch "Slurm; run this on a login node"

if [ -z "$dry_run" ]; then
  # shellcheck source=launch/_venv.sh
  source "$ROOT/launch/_venv.sh"
  ensure_venv cuda
fi
run mkdir -p "$ROOT/runs"
# A process for each GPU: what jax.distributed takes a Slurm task for. All of a node's GPUs stay visible to each of its
# processes (no --gpus-per-task), because jax picks its own by the task's number on the node.
run sbatch "--job-name=$name" "--nodes=$nodes" "--ntasks-per-node=$gpus" "--gpus-per-node=${gpu:+$gpu:}$gpus" \
  ${cpus:+"--cpus-per-task=$cpus"} ${partition:+"--partition=$partition"} ${account:+"--account=$account"} \
  ${time:+"--time=$time"} "--chdir=$ROOT" "--output=$ROOT/runs/%x-%j.log" "$ROOT/launch/slurm.sbatch" "${TRAIN[@]}"

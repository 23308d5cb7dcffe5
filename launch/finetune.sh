#!/usr/bin/env bash
# From labelled recordings to an adapted model and its scores: bash launch/finetune.sh FOLDER [flags] [-- overrides]
# Runs on one GPU, one TPU VM or a CPU, whichever is there. Rerun the same command to resume after an interruption.
set -euo pipefail
# shellcheck source=launch/_venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/_venv.sh"

usage() {
  cat <<'TEXT'
bash launch/finetune.sh FOLDER [--from=MODEL] [--llm=DIR] [--out=DIR] [--hold-out=SHARE] [--dry-run] [-- --config.x=y ...]

  FOLDER      recordings with labels: one sub-folder for each class, or labels.csv; or a file that nlm prepare reads
  --from      official directory or hub id, an export, or a training run; without it a tiny model is trained from scratch
  --llm       the language model of --from, if that has none
  --out       output folder: data/, run/, scores/ (default: runs/finetune-NAME OF FOLDER)
  --hold-out  share of the recordings held out for the scores (default 0.2); 0 if the labels name splits
  --dry-run   shows the three commands and runs none
TEXT
}

folder="" from="" llm="" out="" hold_out=0.2 dry_run="" extra=()
while [ $# -gt 0 ]; do
  case "$1" in
    --help | -h) usage && exit 0 ;;
    --dry-run) dry_run=1 ;;
    --from=?*) from="${1#*=}" ;;
    --llm=?*) llm="${1#*=}" ;;
    --out=?*) out="${1#*=}" ;;
    --hold-out=?*) hold_out="${1#*=}" ;;
    --from | --llm | --out | --hold-out)
      [ $# -gt 1 ] || die "$1 needs a value"
      set -- "$1=$2" "${@:3}"
      continue
      ;;
    --) shift && extra=("$@") && break ;;
    -*) die "unknown flag $1; see bash launch/finetune.sh --help" ;;
    *)
      [ -z "$folder" ] || die "one FOLDER only, not $folder and $1"
      folder="$1"
      ;;
  esac
  shift
done
[ -n "$folder" ] || die "FOLDER is missing: bash launch/finetune.sh FOLDER; see --help"
case "$folder" in *://*) ;; *) [ -e "$folder" ] || die "$folder: no such file or folder" ;; esac
[ -z "$llm" ] || [ -n "$from" ] || die "--llm needs --from: it is the language model of that model"
case "$from" in *,*) die "--from=$from: a path without commas is needed; give it another name" ;; esac
name="$(basename -- "${folder%/}")"
out="${out:-runs/finetune-${name%.*}}"

accelerator() { # the extra of setup.py that this machine needs
  if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then
    echo cuda
  elif compgen -G '/dev/accel*' >/dev/null || compgen -G '/dev/vfio/[0-9]*' >/dev/null; then
    echo tpu
  fi
}

case "${JAX_PLATFORMS:-}" in cpu*) kind="" ;; *) kind="$(accelerator)" ;; esac
options=() asking=()
if [ -z "$kind" ]; then # bfloat16 is emulated there
  options+=(--config.model.compute_dtype=float32)
  asking+=(--dtype=float32)
  export JAX_PLATFORMS=cpu
  export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}" # a sixth of a step is page faults otherwise
fi
[ -z "$llm" ] || options+=("--config.init.llm=$llm") # the run remembers it
config="$ROOT/configs/finetune.py:$out/data${from:+,$from}"
prepare=(prepare "$folder" "--out=$out/data" "--hold-out=$hold_out")
train=(train "--config=$config" "--workdir=$out/run" ${options[@]+"${options[@]}"} ${extra[@]+"${extra[@]}"})
evaluate=(evaluate --benchmark=corpus "--model=$out/run" "--data=$out/data" "--out=$out/scores" ${asking[@]+"${asking[@]}"})

step() {
  printf '\n$ nlm'
  printf ' %q' "$@"
  printf '\n'
  [ -n "$dry_run" ] || "$VENV_PYTHON" -m nlm_jax.cli "$@"
}

[ -n "$dry_run" ] || ensure_venv "$kind"
step "${prepare[@]}"
step "${train[@]}"
step "${evaluate[@]}"
[ -n "$dry_run" ] || printf '\nThe model: %s (nlm infer --model takes it as it is). Its scores: %s\n' "$out/run" "$out/scores/report.html"

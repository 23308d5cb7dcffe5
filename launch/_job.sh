# shellcheck shell=bash
# Sourced by tpu_vm.sh, gke.sh, slurm.sh and sky.sh: their flags, the topologies they know, and --dry-run.
#
# A wrong or missing flag is one sentence on stderr and status 2; what goes wrong later, on somebody's cluster, is status 1.
#
# shellcheck disable=SC2034 # variables are set here for the script that sources this

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"

# What every script takes. A script adds its own flags to FLAGS and switches to SWITCHES, and gives each a default.
FLAGS="config workdir topology name"
SWITCHES="dry-run"
config="" workdir="" topology="" name="" dry_run=""
TRAIN=() # the arguments of `nlm`, from arguments_of_train

die() {
  printf '%s\n' "$*" >&2
  exit 2
}

# parse ARGUMENTS: --flag=value or --flag value into the variable of that name (dashes become underscores), a switch to 1, and
# what follows -- into EXTRA. The script defines usage().
EXTRA=()
parse() {
  local flag value
  while [ $# -gt 0 ]; do
    case "$1" in
      --help | -h) usage && exit 0 ;;
      --) shift && EXTRA=("$@") && break ;;
      --*=*) flag="${1%%=*}" value="${1#*=}" && shift ;;
      --*)
        flag="$1" && shift
        if among "${flag#--}" "$SWITCHES"; then
          printf -v "$(variable "$flag")" 1
          continue
        fi
        if among "${flag#--}" "$FLAGS" && [ $# -eq 0 ]; then die "$flag needs a value"; fi
        value="${1-}" && if [ $# -gt 0 ]; then shift; fi
        ;;
      *) die "unexpected argument $1; flags of nlm train go after --" ;;
    esac
    if among "${flag#--}" "$SWITCHES"; then die "$flag takes no value"; fi
    # shellcheck disable=SC2086 # a word each
    among "${flag#--}" "$FLAGS" ||
      die "unknown flag $flag; use $(printf -- '--%s ' $FLAGS $SWITCHES)and flags of nlm train after --"
    case "$value" in
      "" | --*) die "$flag needs a value" ;;
      *[[:cntrl:]]*) die "$flag must not contain control characters" ;;
    esac
    printf -v "$(variable "$flag")" %s "$value"
  done
  for value in ${EXTRA[@]+"${EXTRA[@]}"}; do
    case "$value" in
      *[[:cntrl:]]*) die "flags of nlm train must not contain control characters" ;;
      --config.*=*) ;;
      *) die "after -- come overrides of the config, such as --config.seed=1, not $value" ;;
    esac
  done
  # What runs is shown: a dry run's on stdout; otherwise stdout belongs to the commands.
  if [ -n "$dry_run" ]; then exec 3>&1; else exec 3>&2; fi
}

among() { case " $2 " in *" $1 "*) ;; *) return 1 ;; esac }

variable() {
  local flag="${1#--}"
  printf '%s\n' "${flag//-/_}"
}

# required FLAG...: each has been given.
required() {
  local flag value
  for flag in "$@"; do
    value="$(variable "$flag")"
    [ -n "${!value}" ] || die "--$flag is missing; see $0 --help"
  done
}

# arguments_of_train WHERE: checks --config and --workdir and sets TRAIN and $name. WHERE is `bucket`, or `shared` if an
# absolute path that all hosts see will do as well.
arguments_of_train() {
  local file="${config%%:*}" kinds="give a bucket, gs://bucket/run or s3://bucket/run"
  [ "$1" = bucket ] || kinds="$kinds, or an absolute path on a shared disk"
  case "$file" in
    *..*) die "--config=$config: give a file of configs/, without .." ;;
    configs/*.py) [ -f "$ROOT/$file" ] || die "--config=$config: there is no $file in the repository" ;;
    *) die "--config=$config: give a file of configs/, such as configs/stage1.py; that folder is what the machines get" ;;
  esac
  case "$workdir" in
    gs://?* | s3://?*) ;;
    /?*) [ "$1" = shared ] || die "--workdir=$workdir: these machines and their disks are thrown away; $kinds" ;;
    *) die "--workdir=$workdir: every host must see the same one; $kinds" ;;
  esac
  if [ -z "$name" ]; then # the config's name, so that the same command finds its machines again
    name="nlm-$(basename -- "$file" .py)"
    name="${name//_/-}"
  fi
  [[ "$name" =~ ^[a-z]([-a-z0-9]{0,37}[a-z0-9])?$ ]] ||
    die "--name=$name: give lower-case letters, digits and dashes, 39 at most, beginning with a letter"
  TRAIN=(train "--config=$config" "--workdir=$workdir" --config.mesh.distributed=True ${EXTRA[@]+"${EXTRA[@]}"})
}

# Generation, prefix of gcloud's accelerator type, what that type counts per chip (v5p: two tensor cores), software version of
# the TPU VM, label of GKE's nodes, shapes.
TPUS="\
v5e v5litepod 1 v2-alpha-tpuv5-lite tpu-v5-lite-podslice 1x1 2x2 2x4 4x4 4x8 8x8 8x16 16x16
v5p v5p       2 v2-alpha-tpuv5      tpu-v5p-slice        2x2x1 2x2x2 2x2x4 2x4x4 4x4x4 4x4x8 4x8x8 8x8x8 8x8x16 8x16x16 16x16x16
v6e v6e       1 v2-alpha-tpuv6e     tpu-v6e-slice        1x1 2x2 2x4 4x4 4x8 8x8 8x16 16x16"

# tpu_topology: $topology such as v5e:4x4 into accelerator_type, runtime_version, node_label, shape, chips, hosts, host_chips.
# GKE's hosts have four chips (one if the slice has one); a TPU VM of eight is one host, which only gcloud needs to know.
tpu_topology() {
  local generation prefix count shapes known=""
  while read -r generation prefix count runtime_version node_label shapes; do
    known="$known${known:+; }$generation: ${shapes// /, }"
    shape="${topology#*:}"
    if [[ "$topology" =~ ^$generation:[0-9x]+$ ]] && among "$shape" "$shapes"; then
      chips=$((${shape//x/*}))
      host_chips=$((chips < 4 ? chips : 4))
      hosts=$((chips / host_chips))
      accelerator_type="$prefix-$((chips * count))"
      return
    fi
  done <<<"$TPUS"
  die "--topology=$topology: unknown; give GENERATION:SHAPE such as v5e:4x4, supported are $known"
}

# gpu_topology: $topology such as h100:2x8 (or 2x8) into gpu (empty if none is named), nodes and gpus per node.
gpu_topology() {
  [[ "$topology" =~ ^(([A-Za-z][A-Za-z0-9._-]*):)?([1-9][0-9]*)x([1-9][0-9]*)$ ]] ||
    die "--topology=$topology: give NODESxGPUS with the kind of GPU before it if there are several, such as 2x8 or h100:2x8"
  gpu="${BASH_REMATCH[2]}" nodes="${BASH_REMATCH[3]}" gpus="${BASH_REMATCH[4]}"
}

# need TOOL WHAT: it is installed, or this is a dry run.
need() {
  [ -n "$dry_run" ] || command -v "$1" >/dev/null 2>&1 ||
    die "$1 is not installed ($2); --dry-run shows what would run without it"
}

# quoted WORD...: one line a shell reads back as these words.
quoted() {
  local line
  printf -v line '%q ' "$@"
  printf '%s\n' "${line% }"
}

# run COMMAND...: shows it, and runs it unless this is a dry run.
run() {
  quoted "$@" >&3
  [ -n "$dry_run" ] || "$@"
}

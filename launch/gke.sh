#!/usr/bin/env bash
# `nlm train` on a TPU slice of a GKE cluster, as a JobSet. See usage() below.
set -euo pipefail
# shellcheck source=launch/_job.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/_job.sh"

usage() {
  cat <<'TEXT'
bash launch/gke.sh --config=configs/stage1.py --workdir=gs://bucket/run --topology=v5e:4x4 --image=REGISTRY/nlm:tpu
                   [--name=NAME] [--service-account=KSA] [--spot] [--dry-run] [-- --config.seed=1 ...]
bash launch/gke.sh ... --xpk --cluster=CLUSTER [--zone=ZONE] [--project=PROJECT]

Fills in launch/gke/jobset.yaml and hands it to kubectl, for the cluster and namespace kubectl is set to; that cluster needs the
JobSet controller and a node pool of the topology. With --xpk, `xpk workload create` does the same on a cluster made by xpk.
The image is built from launch/docker/Dockerfile.tpu and has configs/ in it. --service-account is the Kubernetes service
account that may write to the bucket. --dry-run prints the manifest, or the xpk command.
TEXT
}

FLAGS="$FLAGS image service-account cluster zone project" SWITCHES="$SWITCHES spot xpk"
image="" service_account="" cluster="" zone="" project="" spot="" xpk=""
parse "$@"
required config workdir topology image
arguments_of_train bucket
tpu_topology
[[ "$image" =~ ^[A-Za-z0-9][A-Za-z0-9._:/@-]*$ ]] ||
  die "--image=$image: give the name of a container image, such as REGISTRY/nlm:tpu"
[[ "${service_account:-default}" =~ ^[a-z0-9][-a-z0-9.]*$ ]] ||
  die "--service-account=$service_account: give the name of a Kubernetes service account"

if [ -n "$xpk" ]; then
  required cluster
  [ -z "$service_account" ] || die "--service-account: xpk chooses that itself; leave it out with --xpk"
  need xpk "pip install xpk"
  # xpk tells crashes and preemptions apart no more than that, so the limit is high.
  run xpk workload create "--workload=$name" "--cluster=$cluster" ${zone:+"--zone=$zone"} ${project:+"--project=$project"} \
    "--tpu-type=$accelerator_type" --num-slices=1 "--docker-image=$image" ${spot:+--spot} --max-restarts=100 \
    --restart-on-user-code-failure --termination-grace-period-seconds=180 "--command=exec nlm-pod $(quoted "${TRAIN[@]}")"
  exit
fi
[ -z "$cluster$zone$project" ] || die "--cluster, --zone and --project are for --xpk; kubectl uses its current context"

# list WORD...: a YAML list in one line.
list() {
  local word line=""
  for word in "$@"; do
    # shellcheck disable=SC2016 # $$( is Kubernetes' way to write $(, which would begin a variable
    word="$(printf '%s\n' "$word" | sed -e 's/[\\"]/\\&/g' -e 's/\$(/$$(/g')"
    line="$line${line:+, }\"$word\""
  done
  printf '[%s]\n' "$line"
}

# fill NAME VALUE...: a sed expression that replaces __NAME__ with the value.
expressions=()
fill() {
  expressions+=(-e "s|__$1__|$(printf '%s\n' "$2" | sed -e 's/[\\&|]/\\&/g')|")
}

fill NAME "$name"
fill HOSTS "$hosts"
fill HOST_CHIPS "$host_chips"
fill NODE_LABEL "$node_label"
fill SHAPE "$shape"
fill IMAGE "$image"
fill SERVICE_ACCOUNT "${service_account:-default}"
fill ARGUMENTS "$(list "${TRAIN[@]}")"
if [ -n "$spot" ]; then expressions+=(-e 's|# __SPOT__ ||'); else expressions+=(-e '/__SPOT__/d'); fi
manifest="$(sed -e '/^#/d' "${expressions[@]}" "$ROOT/launch/gke/jobset.yaml")"

if [ -n "$dry_run" ]; then
  printf '# kubectl create --filename=- reads this:\n%s\n' "$manifest"
else
  need kubectl "the Kubernetes CLI"
  printf '%s\n' "$manifest" | run kubectl create --filename=-
fi

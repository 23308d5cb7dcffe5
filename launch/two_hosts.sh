#!/usr/bin/env bash
# Two hosts on one machine: bash launch/two_hosts.sh
#
# Two network namespaces, each with its own name and address and a cable between them, train a tiny model on four fake devices
# each. The second host is killed in the middle of a step; the first has to end by itself and say why; both are started again,
# have to resume from the last checkpoint, and finish. Prints PASS and ends with 0, or FAIL and 1. Linux only, as root.
#
# NLM_PYTHON=... takes an interpreter that has nlm_jax instead of the repository's own environment; KILL=0 kills the first
# host; NLM_HEARTBEAT_SECONDS is the longest the survivor may wait (20 here).
set -euo pipefail

die() {
  printf '%s\n' "$*" >&2
  exit 2
}

[ "$(id -u)" -eq 0 ] || die "two_hosts.sh makes network namespaces, which only root may; run it with sudo"
for tool in ip unshare; do
  command -v "$tool" >/dev/null 2>&1 || die "two_hosts.sh needs the command $tool; install iproute2 and util-linux"
done
dead="${KILL:-1}"
case "$dead" in 0 | 1) ;; *) die "KILL=$dead: give 0 or 1, the host to be killed" ;; esac
left=$((1 - dead))

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
if [ -n "${NLM_PYTHON:-}" ]; then
  VENV_PYTHON="$NLM_PYTHON"
else
  # shellcheck source=launch/_venv.sh
  source "$ROOT/launch/_venv.sh"
  ensure_venv ""
fi
cd -- "$ROOT"

WORK="$(mktemp -d)"
HOSTS=("nlm$$-a" "nlm$$-b")
ADDRESSES=(10.77.0.1 10.77.0.2) # in the namespaces alone; the machine's own network never sees them
PIDS=("" "")

# shellcheck disable=SC2317 # called by the trap
clean_up() {
  local i
  for i in 0 1; do
    [ -z "${PIDS[i]}" ] || kill -KILL "${PIDS[i]}" 2>/dev/null || true
    ip netns del "${HOSTS[i]}" 2>/dev/null || true # and with it its end of the cable
    rm -rf "/etc/netns/${HOSTS[i]}"
  done
  rmdir /etc/netns 2>/dev/null || true
  rm -rf "$WORK"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# --- the hosts -----------------------------------------------------------------------------------------------------------
for i in 0 1; do
  ip netns add "${HOSTS[i]}" 2>"$WORK/error" || die "ip netns add: $(cat "$WORK/error"); run it on a machine that allows namespaces"
  mkdir -p "/etc/netns/${HOSTS[i]}" # `ip netns exec` mounts it as /etc
  printf '127.0.0.1 localhost\n' >"/etc/netns/${HOSTS[i]}/hosts"
  for j in 0 1; do
    printf '%s %s\n' "${ADDRESSES[j]}" "${HOSTS[j]}" >>"/etc/netns/${HOSTS[i]}/hosts"
  done
done
ip link add "nlm$$a" type veth peer name "nlm$$b"
ip link set "nlm$$a" netns "${HOSTS[0]}"
ip link set "nlm$$b" netns "${HOSTS[1]}"
for i in 0 1; do
  end="nlm$$$([ "$i" -eq 0 ] && echo a || echo b)"
  ip -n "${HOSTS[i]}" address add "${ADDRESSES[i]}/24" dev "$end"
  ip -n "${HOSTS[i]}" link set "$end" up
  ip -n "${HOSTS[i]}" link set lo up
done

# --- something to train --------------------------------------------------------------------------------------------------
export JAX_PLATFORMS=cpu HF_HUB_OFFLINE=1
"$VENV_PYTHON" -c "from nlm_jax.testing import write_corpus; write_corpus('$WORK/corpus')"
"$VENV_PYTHON" -m nlm_jax.cli prepare "$WORK/corpus/train.jsonl" --out "$WORK/data" >"$WORK/prepare" 2>&1 ||
  { cat "$WORK/prepare" && exit 1; }
STEPS=12
cat >"$WORK/config.py" <<PY
from configs.smoke import get_config as smoke

def get_config():
    config = smoke("$WORK/data")
    config.stages = config.stages[:1]
    config.stages[0]["steps"] = $STEPS
    config.checkpoint.every = 2
    config.eval.every = 0
    config.log.every = 1
    config.log.tensorboard = False
    config.mesh.distributed = True
    return config
PY

export XLA_FLAGS="--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
export JAX_COMPILATION_CACHE_DIR="$WORK/compiled" JAX_COORDINATOR_ADDRESS="${ADDRESSES[0]}:8482" JAX_NUM_PROCESSES=2
export NLM_HEARTBEAT_SECONDS="${NLM_HEARTBEAT_SECONDS:-20}"

start() {
  local i
  for i in 0 1; do
    # A host name of its own as well: hosts address each other by name. Every exec keeps the process id.
    # shellcheck disable=SC2016 # the inner shell expands them
    JAX_PROCESS_ID="$i" ip netns exec "${HOSTS[i]}" unshare --uts sh -c 'hostname "$0"; exec "$@"' "${HOSTS[i]}" \
      "$VENV_PYTHON" -u -m nlm_jax.cli train --config="$WORK/config.py" --workdir="$WORK/run" \
      >"$WORK/out$i" 2>"$WORK/err$i" &
    PIDS[i]=$!
  done
}

fail() {
  local i
  for i in 0 1; do
    printf -- '--- host %s, stdout\n' "$i" && tail -n 20 "$WORK/out$i"
    printf -- '--- host %s, stderr\n' "$i" && tail -n 20 "$WORK/err$i"
  done
  echo "FAIL: $*"
  exit 1
}

# finish HOST: its exit status, in $status.
finish() {
  status=0
  wait "${PIDS[$1]}" || status=$?
  PIDS[$1]=""
}

saved() { find "$WORK/run/checkpoints/stage1/last" -mindepth 1 -maxdepth 1 -name '[0-9]*' -printf '%f\n' | grep -x '[0-9]*' | sort -n | tail -n 1; }

# --- one host dies -------------------------------------------------------------------------------------------------------
echo "two hosts, ${ADDRESSES[*]}, four devices each: started"
start
until grep -q '^stage1 5/' "$WORK/out0"; do
  for i in 0 1; do
    kill -0 "${PIDS[i]}" 2>/dev/null || fail "host $i ended before its fifth step"
  done
  sleep 0.2
done
disown "${PIDS[$dead]}" # or the shell reports the death itself
kill -KILL "${PIDS[$dead]}"
began=$(date +%s%N)
PIDS[dead]=""
echo "host $dead killed after step 5"
limit=$((NLM_HEARTBEAT_SECONDS + 60))
for ((n = 0; n < limit * 10; n++)); do
  kill -0 "${PIDS[left]}" 2>/dev/null || break
  sleep 0.1
done
took=$((($(date +%s%N) - began) / 1000000))
if kill -0 "${PIDS[left]}" 2>/dev/null; then fail "host $left still runs after $limit s"; fi
finish "$left" 2>/dev/null
message="$(grep -a '^nlm: error: ' "$WORK/err$left" | tail -n 1 || true)"
printf 'host %s ended after %d.%03d s with status %s: %s\n' "$left" $((took / 1000)) $((took % 1000)) "$status" "$message"
[ "$status" -ne 0 ] || fail "host $left ended as if all were well"
[ -n "$message" ] || fail "host $left did not say why it ended"

# --- the job is started again --------------------------------------------------------------------------------------------
last="$(saved)"
echo "started again; the last checkpoint is of step $last"
start
for i in 0 1; do
  finish "$i"
  [ "$status" -eq 0 ] || fail "host $i ended with status $status after the restart"
done
grep -q "^stage1: step $last of $STEPS" "$WORK/out0" || fail "the job did not resume from step $last"
[ "$(saved)" -eq "$STEPS" ] || fail "the job did not finish: its last checkpoint is of step $(saved)"
steps="$("$VENV_PYTHON" -c "import json; print(*[json.loads(line)['step'] for line in open('$WORK/run/metrics.jsonl')])")"
[ "$steps" = "$(seq -s ' ' "$STEPS")" ] || fail "the log has the steps $steps"
echo "resumed from step $last and finished all $STEPS"
echo PASS

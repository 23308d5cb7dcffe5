"""launch/tpu_vm.sh, gke.sh, slurm.sh and sky.sh: the commands and manifests they make, and what they do when stopped.

No cluster is asked: dry runs are read, and stand-ins for gcloud, kubectl, srun and the rest write down what they get.
"""

import copy
import json
import pathlib
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time

import jsonschema
import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), LAUNCH / "slurm.sbatch", LAUNCH / "docker" / "nlm-pod"])
SOURCED = {"_venv.sh", "_job.sh"}
JOBS = {
    "tpu_vm.sh": ["--topology=v5e:4x4", "--zone=here-a"],
    "gke.sh": ["--topology=v5e:4x4", "--image=registry/nlm:tpu"],
    "slurm.sh": ["--topology=2x8"],
    "sky.sh": ["--topology=v5e:4x4"],
}
COMMON = ["--config=configs/stage1.py", "--workdir=gs://bucket/run"]
TRAIN = ["train", *COMMON, "--config.mesh.distributed=True"]
ODD = "--config.stages.0.data.train=('gs://a b&|/\\\"$(X)',)"  # what a shell, sed, YAML and Kubernetes each care about
SYSTEM = ["basename", "bash", "cat", "dirname", "env", "grep", "head", "id", "mkdir", "sed", "sleep", "touch"]
STAND_IN = '#!/bin/bash\n{ printf "%s" "${0##*/}"; printf "\\t%s" "$@"; echo; } >> "$LOG"\n'

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


@pytest.fixture
def machine(tmp_path):
    """`machine("gke.sh", ...)` runs it; `machine.tool(name, body)` makes a stand-in.

    Nothing else is on PATH but what the scripts take from any system: a gcloud that is installed must not be found.
    """
    path, log = tmp_path / "bin", tmp_path / "log"
    path.mkdir()
    log.touch()
    for name in SYSTEM:
        (path / name).symlink_to(shutil.which(name))
    env = {"PATH": str(path), "LOG": str(log), "HOME": str(tmp_path), "NLM_POLL": "0", "STATE": ""}

    def command(script, *arguments):
        return ["bash", str(LAUNCH / script), *arguments]

    def run(script, *arguments, **more):
        done = subprocess.run(
            command(script, *arguments), cwd=tmp_path, env=env | more, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def tool(name, body=""):
        (path / name).unlink(missing_ok=True)  # what a link leads to is not ours
        (path / name).write_text(STAND_IN + body)
        (path / name).chmod(0o755)

    run.command, run.tool, run.env, run.folder = command, tool, env, tmp_path
    run.log = lambda: [line.split("\t") for line in log.read_text().splitlines()]
    return run


def dry(machine, script, *arguments):
    """The commands of a dry run, as words."""
    status, out, err = machine(script, *COMMON, "--dry-run", *arguments)
    assert (status, err) == (0, ""), err
    return [shlex.split(line) for line in out.splitlines()]


def manifest(machine, *arguments):
    status, out, err = machine("gke.sh", *COMMON, "--image=registry/nlm:tpu", "--dry-run", *arguments)
    assert (status, err) == (0, ""), err
    spec = yaml.safe_load(out)
    assert "__" not in out, "something was not filled in"
    jsonschema.validate(spec, schema("jobset"), jsonschema.Draft202012Validator)
    return spec, spec["spec"]["replicatedJobs"][0]["template"]["spec"]


def schema(name):
    spec = json.loads((ROOT / "tests" / "unit" / "schemas" / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(spec)
    return spec


# --- every script -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: str(p.relative_to(LAUNCH)))
def test_script(script):
    assert subprocess.run(["bash", "-n", script], capture_output=True, check=False).returncode == 0
    if script.name not in SOURCED:
        assert script.stat().st_mode & stat.S_IXUSR, "not executable"
        assert "set -euo pipefail" in script.read_text() or "set -uo pipefail" in script.read_text()


@pytest.mark.skipif(
    shutil.which("shellcheck") is None and not (pathlib.Path(sys.executable).parent / "shellcheck").exists(),
    reason="no shellcheck",
)
def test_shellcheck():
    tool = shutil.which("shellcheck") or pathlib.Path(sys.executable).parent / "shellcheck"
    done = subprocess.run([tool, "--external-sources", *SCRIPTS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", JOBS)
def test_help(machine, script):
    status, out, err = machine(script, "--help")
    assert (status, err) == (0, "")
    for flag in ("--config=", "--workdir=", "--topology", "--dry-run"):
        assert flag in out


@pytest.mark.parametrize("script", JOBS)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--topology"], "--topology needs a value"),
        (["--topology="], "--topology needs a value"),
        (["--config", "--workdir=gs://b/r"], "--config needs a value"),
        (["--topologie=v5e:4x4"], "unknown flag --topologie; use --config --workdir --topology --name"),
        (["--topologie"], "unknown flag --topologie"),
        (["--config.seed=1"], "unknown flag --config.seed"),
        (["--dry-run=1"], "--dry-run takes no value"),
        (["v5e:4x4"], "unexpected argument v5e:4x4"),
        (["--name=a\tb"], "--name must not contain control characters"),
        (["--", "--seed=1"], "after -- come overrides of the config"),
        (["--", "--config.seed=1\n"], "must not contain control characters"),
        (["--config=configs/none.py"], "there is no configs/none.py"),
        (["--config=gs://bucket/stage1.py"], "give a file of configs/"),
        (["--config=configs/../setup.py"], "without .."),
        (["--workdir=runs/first"], "every host must see the same one"),
        (["--workdir=gs://"], "every host must see the same one"),
        (["--name=Stage_1"], "--name=Stage_1: give lower-case letters"),
        (["--name=" + "a" * 40], "39 at most"),
        (["--topology=v5e"], "--topology=v5e: "),
        (["--topology=v5e:4x4 4x8"], "--topology=v5e:4x4 4x8: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_flags(machine, script, arguments, sentence):
    status, out, err = machine(script, *COMMON, *JOBS[script], "--dry-run", *arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1, err
    assert sentence in err


@pytest.mark.parametrize("script", JOBS)
def test_required_flags(machine, script):
    for flag in (values := [*COMMON, *JOBS[script]]):
        status, out, err = machine(script, *(other for other in values if other != flag))
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert f"{flag.partition('=')[0]} is missing" in err


@pytest.mark.parametrize("script", JOBS)
def test_missing_tool(machine, script):
    tool = {"tpu_vm.sh": "gcloud", "gke.sh": "kubectl", "slurm.sh": "sbatch", "sky.sh": "sky"}[script]
    status, out, err = machine(script, *COMMON, *JOBS[script])
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"{tool} is not installed" in err
    assert "--dry-run" in err


@pytest.mark.parametrize("script", ["tpu_vm.sh", "gke.sh", "sky.sh"])
def test_unknown_topology_lists_the_supported_ones(machine, script):
    err = machine(script, *COMMON, *JOBS[script], "--topology=v7x:2x2x1")[2]
    for topologies in ("v5e: 1x1, 2x2", "v5p: 2x2x1", "v6e: 1x1", "16x16"):
        assert topologies in err


def test_both_ways_to_give_a_value(machine):
    one = dry(machine, "sky.sh", "--topology=H100:2x8", "--name=run")
    assert dry(machine, "sky.sh", "--topology", "H100:2x8", "--name", "run") == one


def test_argument_of_a_config_file(machine):
    (words,) = dry(machine, "sky.sh", "--topology=H100:1x1", "--config=configs/smoke.py:gs://bucket/data")
    assert {"--name=nlm-smoke", "--env=NLM_CONFIG=configs/smoke.py:gs://bucket/data"} <= set(words)


# --- TPU VM -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topology", "kind", "version"),
    [
        ("v5e:1x1", "v5litepod-1", "v2-alpha-tpuv5-lite"),
        ("v5e:4x4", "v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v5p:2x2x1", "v5p-8", "v2-alpha-tpuv5"),
        ("v5p:4x4x8", "v5p-256", "v2-alpha-tpuv5"),
        ("v6e:8x8", "v6e-64", "v2-alpha-tpuv6e"),
    ],
)
def test_tpu_vm(machine, topology, kind, version):
    at = ["--zone=here-a", "--project=p"]
    lines = dry(machine, "tpu_vm.sh", *at, f"--topology={topology}", "--spot", "--", ODD)
    gcloud = ["gcloud", "compute", "tpus"]
    assert lines[0] == [
        *[*gcloud, "queued-resources", "create", "nlm-stage1", *at, "--node-id=nlm-stage1"],
        *[f"--accelerator-type={kind}", f"--runtime-version={version}", "--spot"],
    ]
    assert lines[2][0] == "tar"
    assert {"nlm_jax", "configs", "setup.py", "launch"} <= set(lines[2])
    assert lines[3][:5] == [*gcloud, "tpu-vm", "scp"]
    remote = [shlex.split(line[-1].removeprefix("--command=")) for line in lines[4:]]
    assert [line[:6] for line in lines[4:]] == [[*gcloud, "tpu-vm", "ssh", "nlm-stage1"]] * 4
    assert [line[-2] for line in lines[4:]] == ["--worker=all"] * 3 + ["--worker=0"]
    host = ["bash", "nlm-stage1/launch/_tpu_host.sh"]
    assert remote[1:] == [[*host, "install"], [*host, "start", *TRAIN, ODD], [*host, "follow"]]
    assert "--spot" not in dry(machine, "tpu_vm.sh", *at, f"--topology={topology}")[0]


GCLOUD = """case "$*" in
  *" describe "*) cat "$STATE" ;;
  *" create "*) echo ACTIVE > "$STATE" ;;
  *" delete "*) : > "$STATE" ;;
  *" follow"*) if [ -s "$TAKEN" ]; then : > "$TAKEN"; echo SUSPENDED > "$STATE"; exit 255; fi; exit "${FOLLOWED:-0}" ;;
esac
"""


@pytest.fixture
def slice_of(machine, tmp_path):
    """`slice_of("ACTIVE", ...)`: tpu_vm.sh, the queued resource in that state; gives status, gcloud's verbs, stderr."""
    machine.tool("gcloud", GCLOUD)
    machine.tool("tar")
    machine.tool("mkdir")

    def run(before, *arguments, occupied="", **more):
        (tmp_path / "state").write_text(before)
        (tmp_path / "taken").write_text(occupied)
        (tmp_path / "log").write_text("")
        env = {"STATE": str(tmp_path / "state"), "TAKEN": str(tmp_path / "taken"), **more}
        status, _, err = machine("tpu_vm.sh", *COMMON, *JOBS["tpu_vm.sh"], *arguments, **env)
        lines = [line for line in machine.log() if line[0] == "gcloud" and "describe" not in line]
        return status, [w for line in lines for w in line if w in ("create", "delete", "scp")], err

    return run


def test_tpu_vm_makes_a_slice_or_uses_the_one_there_is(slice_of):
    status, verbs, err = slice_of("")
    assert (status, verbs) == (0, ["create", "scp"])
    assert "to delete the slice: gcloud compute tpus queued-resources delete nlm-stage1" in err
    assert slice_of("ACTIVE")[:2] == (0, ["scp"])
    assert slice_of("SUSPENDED")[:2] == (0, ["delete", "create", "scp"])


def test_tpu_vm_asks_again_for_a_spot_slice_alone(slice_of):
    assert slice_of("", "--spot", occupied="yes")[:2] == (0, ["create", "scp", "delete", "create", "scp"])
    status, verbs, err = slice_of("", occupied="yes")
    assert (status, verbs) == (1, ["create", "scp"])
    assert "rerun the same command to resume" in err
    assert slice_of("", "--spot", FOLLOWED="1")[:2] == (1, ["create", "scp"])


@pytest.fixture
def host(machine):
    """`host("start", ...)`: _tpu_host.sh next to a service that is active as often as the file says."""
    machine.tool("sudo", '[ "$1" = journalctl ] || "$@"\n')
    machine.tool("systemd-run", 'echo 2 > "$LEFT"\n')
    machine.tool(
        "systemctl",
        """case "$1" in
  is-active) left="$(cat "$LEFT")"; [ "$left" -gt 0 ] && echo $((left - 1)) > "$LEFT" ;;
  is-failed) [ -n "${FAILED:-}" ] ;;
  is-system-running) echo "${SYSTEM:-running}" ;;
esac
""",
    )
    left = machine.folder / "left"

    def run(step, *arguments, active=0, **more):
        left.write_text(f"{active}\n")
        return machine("_tpu_host.sh", step, *arguments, LEFT=str(left), **more)

    return run


def test_tpu_host_starts_a_service_once(machine, host):
    assert host("start", *TRAIN, ODD)[0] == 0
    started = next(line for line in machine.log() if line[0] == "systemd-run")
    assert started[-len(TRAIN) - 2 :] == [str(ROOT / ".venv/bin/nlm"), *TRAIN, ODD.replace("$", "$$")]
    assert {"--unit=nlm-train", "--property=KillMode=mixed", "--property=TimeoutStopSec=180"} <= set(started)
    before = len(machine.log())
    assert "already runs" in host("start", *TRAIN, active=1)[1]
    assert not [line for line in machine.log()[before:] if line[0] == "systemd-run"]
    assert host("install", active=1)[0] == 0


def test_tpu_host_follows_to_the_end(host):
    assert host("follow", active=3)[0] == 0
    assert host("follow", active=1, FAILED="yes")[0] == 1
    assert host("follow", active=1, SYSTEM="stopping")[0] == 1
    assert host("fellow")[0] == 2


# --- GKE --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topology", "label", "hosts", "chips"),
    [
        ("v5e:1x1", "tpu-v5-lite-podslice", 1, 1),
        ("v5e:2x2", "tpu-v5-lite-podslice", 1, 4),
        ("v5e:4x4", "tpu-v5-lite-podslice", 4, 4),
        ("v5p:4x4x8", "tpu-v5p-slice", 32, 4),
        ("v6e:8x8", "tpu-v6e-slice", 16, 4),
    ],
)
def test_jobset(machine, topology, label, hosts, chips):
    spec, job = manifest(machine, f"--topology={topology}", "--name=true", "--", ODD)
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["metadata"]["name"] == "true"
    assert (job["completions"], job["parallelism"], job["backoffLimit"]) == (hosts, hosts, 0)
    assert container["resources"]["limits"] == {"google.com/tpu": chips}
    assert container["command"] == ["nlm-pod"]
    assert container["args"] == [*TRAIN, ODD.replace("$(", "$$(")]
    shape = topology.split(":")[1]
    places = {"cloud.google.com/gke-tpu-accelerator": label, "cloud.google.com/gke-tpu-topology": shape}
    assert pod["nodeSelector"] == places
    assert pod["serviceAccountName"] == "default"


def test_jobset_restarts_after_a_preemption(machine):
    spec, job = manifest(machine, "--topology=v5e:4x4")
    pod = job["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= 120
    assert pod["restartPolicy"] == "Never"  # a pod failure policy allows no other
    rules = job["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["FailJob", "FailJob"]
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert rules[1]["onExitCodes"]["containerName"] == pod["containers"][0]["name"]
    assert rules[1]["onExitCodes"]["values"] == [128 + signal.SIGTERM]
    policy = spec["spec"]["failurePolicy"]
    assert policy["maxRestarts"] > 0
    assert policy["rules"][0]["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert policy["rules"][0]["onJobFailureReasons"] == ["PodFailurePolicy"]


def test_jobset_on_spot_nodes(machine):
    pod = manifest(machine, "--topology=v5e:4x4", "--spot", "--service-account=writer")[1]["template"]["spec"]
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert pod["tolerations"][0]["key"] == "cloud.google.com/gke-spot"
    assert pod["serviceAccountName"] == "writer"


def test_misspelt_fields_do_not_pass(machine):
    good = manifest(machine, "--topology=v5e:4x4", "--spot")[0]
    places = []

    def objects(node, at=()):
        if isinstance(node, dict):
            places.append(at)
        pairs = node.items() if isinstance(node, dict) else enumerate(node if isinstance(node, list) else ())
        for key, child in pairs:
            objects(child, (*at, key))

    objects(good)
    assert len(places) > 20
    for place in places:
        bad = copy.deepcopy(good)
        node = bad
        for key in place:
            node = node[key]
        node["misspelt"] = {}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema("jobset"), jsonschema.Draft202012Validator)


def test_kubectl_reads_what_the_dry_run_shows(machine):
    machine.tool("kubectl", 'cat > "$LOG.stdin"\n')
    arguments = [*COMMON, *JOBS["gke.sh"], "--", ODD]
    _, out, _ = machine("gke.sh", *COMMON, *JOBS["gke.sh"], "--dry-run", "--", ODD)
    status, _, err = machine("gke.sh", *arguments)
    assert status == 0, err
    assert machine.log() == [["kubectl", "create", "--filename=-"]]
    assert (machine.folder / "log.stdin").read_text() == out.split("\n", 1)[1]


def test_xpk(machine):
    arguments = [*JOBS["gke.sh"], "--xpk", "--cluster=c", "--project=p", "--spot", "--", ODD]
    ((*words, command),) = dry(machine, "gke.sh", *arguments)
    assert words == [
        *["xpk", "workload", "create", "--workload=nlm-stage1", "--cluster=c", "--project=p"],
        *[
            "--tpu-type=v5litepod-16",
            "--num-slices=1",
            "--docker-image=registry/nlm:tpu",
            "--spot",
            "--max-restarts=100",
        ],
        *["--restart-on-user-code-failure", "--termination-grace-period-seconds=180"],
    ]
    assert shlex.split(command.removeprefix("--command=")) == ["exec", "nlm-pod", *TRAIN, ODD]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--xpk"], "--cluster is missing"),
        (["--cluster=c"], "are for --xpk"),
        (["--xpk", "--cluster=c", "--service-account=s"], "leave it out with --xpk"),
        (["--image=a b"], "name of a container image"),
        (["--service-account=A b"], "name of a Kubernetes service account"),
        (["--workdir=/shared/run"], "give a bucket"),
    ],
)
def test_gke_wrong_flags(machine, arguments, sentence):
    status, out, err = machine("gke.sh", *COMMON, *JOBS["gke.sh"], *arguments, "--dry-run")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert sentence in err


# --- Slurm ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topology", "nodes", "tasks", "gpus"), [("2x8", 2, 8, "8"), ("h100:4x2", 4, 2, "h100:2"), ("1x1", 1, 1, "1")]
)
def test_slurm(machine, topology, nodes, tasks, gpus):
    arguments = ["--partition=p", "--account=a", "--time=1-00:00:00", "--cpus=4", "--workdir=/shared/run", "--", ODD]
    _, words = dry(machine, "slurm.sh", f"--topology={topology}", *arguments)
    assert words[:5] == [
        *["sbatch", "--job-name=nlm-stage1", f"--nodes={nodes}", f"--ntasks-per-node={tasks}"],
        f"--gpus-per-node={gpus}",
    ]
    assert {"--partition=p", "--account=a", "--time=1-00:00:00", "--cpus-per-task=4", f"--chdir={ROOT}"} <= set(words)
    train = [*TRAIN, ODD]
    train[2] = "--workdir=/shared/run"
    assert words[-len(train) - 1 :] == [str(LAUNCH / "slurm.sbatch"), *train]


def test_slurm_wrong_flags(machine):
    for topology in ("8", "0x8", "2x", "x8", "h 100:2x8"):
        status, _, err = machine("slurm.sh", *COMMON, f"--topology={topology}", "--dry-run")
        assert (status, err.count("\n")) == (2, 1)
        assert "give NODESxGPUS" in err
    status, _, err = machine("slurm.sh", *COMMON, *JOBS["slurm.sh"], "--cpus=many", "--dry-run")
    assert (status, err.count("\n")) == (2, 1)
    assert "number of cores" in err


def test_sbatch_directives():
    text = (LAUNCH / "slurm.sbatch").read_text()
    directives = [line.split()[1] for line in text.splitlines() if line.startswith("#SBATCH")]
    assert "--requeue" in directives
    (directive,) = (d for d in directives if d.startswith("--signal="))
    name, _, seconds = directive.removeprefix("--signal=").partition("@")
    assert name == "B:TERM"
    assert int(seconds) >= 120


def test_sbatch_hands_on_the_status(machine):
    machine.tool("scancel")
    machine.tool("scontrol")
    for status, requeued in ((0, False), (1, False), (2, False), (143, True)):
        machine.tool("srun", f"exit {status}\n")
        before = len(machine.log())
        assert machine("slurm.sbatch", *TRAIN, SLURM_JOB_ID="7")[0] == (0 if requeued else status)
        lines = machine.log()[before:]
        assert lines[0] == ["srun", "--wait=300", "nlm", *TRAIN]
        assert (["scontrol", "requeue", "7"] in lines) is requeued


# --- stopping: a process that saves on SIGTERM and, as `nlm train` does, ends with 0 ----------------------------------

SAVES = """trap 'echo saving >> "$LOG"; sleep 0.3; echo saved >> "$LOG"; exit 0' TERM
touch "$LOG.ready"
while :; do sleep 0.05; done
"""


def stop(machine, command, times=1, **more):
    """Starts `command`, sends SIGTERM when the stand-in is ready, and gives the status and the log's last words."""
    with subprocess.Popen(command, cwd=machine.folder, env=machine.env | more) as process:
        wait_for(machine.folder / "log.ready")
        for _ in range(times):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        status = process.wait(timeout=60)
    return status, [line[0] for line in machine.log()]


def wait_for(path):
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not come")


def test_a_stopped_pod_is_not_a_finished_one(machine):
    machine.tool("nlm", SAVES)
    status, words = stop(machine, machine.command("docker/nlm-pod", *TRAIN), times=2)
    assert status == 143
    assert words == ["nlm", "saving", "saved"]  # told once, and waited for


@pytest.mark.parametrize("status", [0, 1, 2, 130])
def test_a_pod_that_ends_by_itself(machine, status):
    machine.tool("nlm", f"exit {status}\n")
    assert machine("docker/nlm-pod", *TRAIN)[0] == status
    assert machine.log() == [["nlm", *TRAIN]]


def test_a_stopped_slurm_job_is_queued_again(machine):
    machine.tool("srun", 'echo $$ > "$LOG.step"\n' + SAVES)
    machine.tool("scancel", 'kill -TERM "$(cat "$LOG.step")"\n')
    machine.tool("scontrol")
    status, words = stop(machine, machine.command("slurm.sbatch", *TRAIN), SLURM_JOB_ID="7")
    assert status == 0
    assert words == ["srun", "scancel", "saving", "saved", "scontrol"]


# --- SkyPilot ---------------------------------------------------------------------------------------------------------


def task():
    spec = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    jsonschema.validate(spec, schema("skypilot"), jsonschema.Draft202012Validator)
    return spec


def test_sky_task():
    spec = task()
    assert spec["resources"]["job_recovery"]["recover_on_exit_codes"] == [128 + signal.SIGTERM]
    for place in (spec, spec["resources"], spec["resources"]["job_recovery"]):
        place["misspelt"] = 1
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spec, schema("skypilot"), jsonschema.Draft202012Validator)
        del place["misspelt"]


@pytest.mark.parametrize(
    ("topology", "gpus", "nodes"),
    [
        ("v5e:4x4", "tpu-v5litepod-16", 1),
        ("v5p:4x4x8", "tpu-v5p-256", 1),
        ("v6e:8x8", "tpu-v6e-64", 1),
        ("H100:2x8", "H100:8", 2),
        ("V100:1x4", "V100:4", 1),
    ],
)
def test_sky(machine, topology, gpus, nodes):
    (words,) = dry(machine, "sky.sh", f"--topology={topology}", "--infra=gcp", "--spot", "--", ODD, "--config.seed=1")
    overrides = next(w for w in words if w.startswith("--env=NLM_OVERRIDES="))
    assert shlex.split(overrides.removeprefix("--env=NLM_OVERRIDES=")) == [ODD, "--config.seed=1"]
    words.remove(overrides)
    assert words == [
        *["sky", "jobs", "launch", "--name=nlm-stage1", f"--gpus={gpus}", f"--num-nodes={nodes}", "--infra=gcp"],
        *["--use-spot", "--env=NLM_CONFIG=configs/stage1.py", "--env=NLM_WORKDIR=gs://bucket/run", "--yes"],
        "launch/sky.yaml",
    ]
    assert "--no-use-spot" in dry(machine, "sky.sh", f"--topology={topology}")[0]
    assert set(task()["envs"]) == {"NLM_CONFIG", "NLM_WORKDIR", "NLM_OVERRIDES"}


def test_sky_wants_the_kind_of_gpu_and_a_bucket(machine):
    for arguments, sentence in ((["--topology=2x8"], "name the kind of GPU"), (["--workdir=/shared"], "give a bucket")):
        status, _, err = machine("sky.sh", *COMMON, *JOBS["sky.sh"], *arguments, "--dry-run")
        assert (status, err.count("\n")) == (2, 1)
        assert sentence in err


def test_sky_run(machine):
    """What a node runs, on a TPU host and on the second of two GPU nodes."""
    nlm = machine.folder / ".venv" / "bin" / "nlm"
    nlm.parent.mkdir(parents=True)
    nlm.write_text(STAND_IN + 'env | grep ^JAX_ > "$LOG.env"; exit "${STATUS:-0}"\n')
    nlm.chmod(0o755)
    sky = {"SKYPILOT_NODE_IPS": "10.0.0.5\n10.0.0.6", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
    values = {"NLM_CONFIG": "configs/stage1.py", "NLM_WORKDIR": "gs://bucket/run", "NLM_OVERRIDES": shlex.quote(ODD)}

    def run(**more):
        env = machine.env | sky | values | more
        done = subprocess.run(["bash", "-c", task()["run"]], cwd=machine.folder, env=env, check=False)
        return done.returncode, (machine.folder / "log.env").read_text().splitlines()

    assert run() == (0, [])
    machine.tool("nvidia-smi")
    status, env = run(STATUS="3")
    assert status == 3
    assert sorted(env) == ["JAX_COORDINATOR_ADDRESS=10.0.0.5:8482", "JAX_NUM_PROCESSES=2", "JAX_PROCESS_ID=1"]
    assert machine.log()[-1] == ["nlm", *TRAIN, ODD]


# --- Docker -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Dockerfile.tpu", "Dockerfile.cuda"])
def test_dockerfile(name):
    text, extra = (LAUNCH / "docker" / name).read_text(), name.removeprefix("Dockerfile.")
    steps = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]
    assert steps[0] == ["FROM", "python:3.12-slim"]
    order = [step for step, _ in steps]
    assert set(order) <= {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD"}
    assert ["RUN", f'pip install --no-cache-dir ".[{extra},bucket]"'] in steps
    assert json.loads(dict(steps)["ENTRYPOINT"]) == ["nlm"]
    assert dict(steps)["USER"] == "nlm"
    assert order.index("USER") > max(i for i, step in enumerate(order) if step in ("RUN", "COPY"))
    for step, rest in steps:
        if step == "COPY":
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources), rest
    # The dependencies' layer must not change with the code, yet suffice for setup.py.
    first = [rest for step, rest in steps[: order.index("RUN")] if step == "COPY"]
    assert " ".join(first).split() == [
        *["setup.py", "pyproject.toml", "README.md", "LICENSE", "./"],
        *["nlm_jax/__init__.py", "nlm_jax/"],
    ]

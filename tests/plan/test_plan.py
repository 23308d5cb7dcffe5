"""`nlm plan`: the TPU compiler on a small step; memory and what is sent; mistakes in one sentence."""

import importlib.util
import json
import math
import pathlib

import pytest

from nlm_jax.core.config import load
from nlm_jax.core.errors import UserError
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.plan import command, kernels, search, topology
from nlm_jax.plan import compile as compiler
from nlm_jax.plan.census import census
from nlm_jax.plan.chips import CHIPS
from nlm_jax.plan.search import best, search_rows
from nlm_jax.train.config import train_config

CONFIG = pathlib.Path(__file__).with_name("tiny.py")
needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")

LOOPED = """HloModule step, num_partitions=4

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%condition (p: (s32[], f32[8,16])) -> pred[] {
  %p = (s32[], f32[8,16]) parameter(0)
  %limit = s32[]{:T(128)} constant(5)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %less = pred[] compare(%i, %limit), direction=LT
}

%body (q: (s32[], f32[8,16])) -> (s32[], f32[8,16]) {
  %q = (s32[], f32[8,16]) parameter(0)
  %x = f32[8,16] get-tuple-element(%q), index=1
  %all = bf16[8,64]{1,0} all-gather(%x), channel_id=1, replica_groups={{0,1,2,3}}, dimensions={1}
  %again = bf16[8,64]{1,0} all-gather(%x), channel_id=1, replica_groups={{0,1,2,3}}, dimensions={1}
  ROOT %out = (s32[], f32[8,16]) fusion(%all), kind=kLoop, calls=%add, backend_config={"estimated_cycles":"70"}
}

ENTRY %main (x: f32[8,16]) -> f32[8,16] {
  %x = f32[8,16] parameter(0)
  %loop = (s32[], f32[8,16]) while(%x), condition=%condition, body=%body
  %one = f32[100]{0} all-reduce(%x), channel_id=2, replica_groups=[2,2]<=[4], to_apply=%add
  %part = f32[10]{0} reduce-scatter(%x), channel_id=3, replica_groups=mesh['a'=2,'b'=4] {'b'}, to_apply=%add
  ROOT %y = f32[8,16] copy(%x), backend_config={"estimated_cycles":"30"}
}
"""


def test_census_multiplies_loops_and_counts_a_channel_once():
    counts = census(LOOPED)
    assert counts.count == {"all-gather": 5, "all-reduce": 1, "reduce-scatter": 1}
    assert counts.sent["all-gather"] == 5 * 8 * 64 * 2 * 3 / 4
    assert counts.sent["all-reduce"] == 2 * 100 * 4 * 1 / 2
    assert counts.sent["reduce-scatter"] == 10 * 4 * 4 * 3 / 4
    assert counts.cycles == 5 * 70 + 30


def test_trip_counts_that_xla_writes_down():
    annotated = LOOPED.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"7"}}')
    assert census(annotated).count["all-gather"] == 7


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("v9:4x4", "supported kinds: v5e"),
        ("v5e", "write KIND:SHAPE"),
        ("v5e:four", "is not a shape"),
        ("v5p:4x4", "3 dimension"),
        ("v5e:32x32", "the maximum for TPU v5e is 256"),
        ("h100:64", "the maximum for H100 is 8"),
    ],
)
def test_invalid_topologies(text, says):
    with pytest.raises(UserError, match=says):
        topology.parse(text)


@needs_libtpu
def test_slices_that_libtpu_does_not_support():
    with pytest.raises(UserError, match="libtpu has no such slice"):
        topology.devices(topology.parse("v5e:3x5"))


@needs_libtpu
@pytest.mark.parametrize(("text", "chips"), [("v5e:4x4", 16), ("v5e:16x16", 256), ("v5p:4x4x8", 128), ("v6e:8x8", 64)])
def test_slices_are_described(text, chips):
    devices = topology.devices(topology.parse(text))
    assert len(devices) == chips
    assert devices[0].platform == "tpu"


def test_kernels_by_hand():
    """44 clips of 10 s on a v5e: 512 padded positions, heads of 64 that take as long as 128, 12 heads, 12 layers."""
    passes = [kernels.FORWARD, kernels.BACKWARD]
    seconds = kernels.gated_attention_seconds(CHIPS["v5e"], BeatsConfig(), 160_000, 44 * 12, passes)
    products = 7 * 2 * 512 * 512 * 128 / 197e12
    vector = 512 * 512 * (21 / 4 + 2) / (1024 * 1.5e9)
    assert seconds == pytest.approx(44 * 12 * 12 * (products + vector))


def plan(nlm, tmp_path, *argv):
    out = tmp_path / "plan.json"
    status, text, err = nlm("plan", f"--config={CONFIG}", f"--json={out}", *argv)
    return status, text + err, json.loads(out.read_text()) if out.exists() else None


@needs_libtpu
@pytest.mark.parametrize(
    ("text", "mesh", "changes"),
    [
        ("v5e:4x4", "1x16x1", ("model.attention=xla",)),
        ("v6e:4x4", "2x8x1", ("model.base_dtype=int8", "mesh.rules=replicated-base", "model.remat=mlp")),
    ],
    ids=["cut", "int8, whole, splash"],
)
def test_the_compiler_says_what_a_step_needs(nlm, tmp_path, text, mesh, changes):
    """The second has every kernel and placement that the first lacks: they compile for the chip itself."""
    flags = [f"--config.{change}" for change in changes]
    status, printed, plan_ = plan(nlm, tmp_path, f"--topology={text}", f"--mesh={mesh}", *flags)
    assert status == 0, printed
    chip = CHIPS[text.partition(":")[0]]
    assert plan_["chips"] == 16
    assert plan_["rows_per_chip"] == 1
    assert plan_["hbm_bytes_per_chip"] == chip.hbm
    assert plan_["argument_bytes_per_chip"] < plan_["peak_bytes_per_chip"] < 2**30
    assert plan_["fits"]
    # Weights are gathered layer by layer, activations never are: all gathers together stay near a few whole models. A
    # base that is whole on every chip is not gathered at all.
    whole = "mesh.rules=replicated-base" in changes
    assert plan_["attention"] == ("splash" if whole else "xla")
    assert plan_["collectives"]["all-gather"]["count"] > 0
    assert plan_["collectives"]["all-gather"]["bytes"] < (20e6 if whole else 60e6)
    assert plan_["collective_bytes_per_chip"] < 60e6
    assert plan_["compiler_cycles"] > 0
    assert set(plan_["kernel_seconds"]) == {"gated attention (BEATs)"} | ({"splash attention"} if whole else set())
    by_formula = sum(plan_["kernel_seconds"].values())
    assert 0 < by_formula < plan_["roofline_seconds"]["compiler"]
    assert plan_["roofline_seconds"]["compiler"] == pytest.approx(plan_["compiler_cycles"] / chip.clock + by_formula)
    assert 0 < plan_["predicted_mfu"] < 1


@pytest.mark.parametrize(("limit", "rows"), [(8, [4, 8, 16]), (64, [4, 8, 16, 32, 64]), (1, [4, 2, 1]), (0, [4, 2, 1])])
def test_a_search_compiles_no_more_than_necessary(limit, rows):
    reports = list(search_rows(lambda n: fitting(n, n <= limit)))
    assert [report["rows"] for report in reports] == rows
    assert best(reports)["rows"] == (limit if limit else 1)


def test_a_search_stops_if_the_weights_do_not_fit():
    assert len(list(search_rows(lambda rows: {"fits": False, "hopeless": True}))) == 1


def fitting(rows: int, fits: bool = True, hbm: int = 1000, link: float = 0.1) -> dict:
    """The fields of a report that a search uses: 10 bytes of state, 2 bytes per row."""
    memory = {"argument_bytes_per_chip": 10, "peak_bytes_per_chip": 10 + 2 * rows, "hbm_bytes_per_chip": hbm}
    times = {"roofline_seconds": {"interconnect": link}, "predicted_step_seconds": 1.0}
    return {"fits": fits, "rows": rows, "predicted_clips_per_second": rows, **memory, **times}


def test_rows_that_cannot_fit_are_not_compiled():
    """Eight rows take 26 bytes. Of the 8 temporary bytes of four rows 6 surely double: 24 bytes are too much for 25."""
    assert [one["rows"] for one in search_rows(lambda rows: fitting(rows, hbm=25))] == [4]
    assert [one["rows"] for one in search_rows(lambda rows: fitting(rows, hbm=26))][:2] == [4, 8]


@pytest.mark.parametrize(("link", "remats"), [(0.1, ["mlp"]), (0.9, ["mlp", "attention", "full"])])
def test_other_policies_are_tried_if_links_are_the_bottleneck(monkeypatch, link, remats):
    config = train_config(load(CONFIG))
    slice_, announced = topology.parse("h100:8"), []
    monkeypatch.setattr(search, "MAX_ROWS", 4)
    monkeypatch.setattr(search, "evaluate", lambda *argv: fitting(4, link=link) | {"remat": argv[0].model.remat})
    reports = list(search.search(config, 0, slice_, topology.devices(slice_), announced.append))
    assert [report["remat"] for report in reports] == remats * 2
    assert announced[0] == "1x8x1 default, 4 rows per chip, remat mlp"


@pytest.mark.parametrize(
    ("shape", "meshes"),
    [((4, 4), ["1x16x1"]), ((8, 8), ["1x64x1", "8x8x1"]), ((4, 4, 8), ["1x128x1", "8x16x1"]), ((8,), ["1x8x1"])],
)
def test_meshes_of_a_search_follow_the_sides_of_the_slice(shape, meshes):
    *cut, whole = search.placements(shape)
    assert ["x".join(map(str, sizes)) for rules, sizes in cut] == meshes
    assert whole == ("replicated-base", (1, math.prod(shape), 1))


def test_a_search_tries_each_way(nlm, tmp_path, monkeypatch):
    """Which compilations a search asks for, and which of their reports it shows; the compiler itself stays out."""

    def evaluate(config, index, slice_, devices, sizes):
        rows = config.stages[index].data.rows // slice_.chips
        program = compiler.program(config, index, devices, sizes)
        speed = rows * (2 if config.mesh.rules == "replicated-base" else 1)
        if rows > 4:
            return search.rejection(program, slice_, config, "too much")
        plan_ = search.rejection(program, slice_, config, "") | {"fits": True, "predicted_clips_per_second": speed}
        return plan_ | fitting(rows, link=0.9) | {"predicted_clips_per_second": speed, "predicted_mfu": 0.1}

    monkeypatch.setattr(search, "REMATS", ("mlp", "full"))
    monkeypatch.setattr(search, "evaluate", evaluate)
    monkeypatch.setattr(command, "show", lambda console, report: None)
    status, printed, plan_ = plan(nlm, tmp_path, "--topology=h100:2", "--search")
    assert status == 0, printed
    tried = [(f["rules"], f["remat"], f["rows_per_chip"]) for f in plan_["tried"]]
    ways = [(rules, remat) for rules in ("default", "replicated-base") for remat in ("mlp", "full")]
    assert tried == [(*way, rows) for way in ways for rows in (4, 8)]
    assert (plan_["rules"], plan_["rows_per_chip"]) == ("replicated-base", 4)


@needs_libtpu
@pytest.mark.slow
def test_a_replicated_base_is_never_gathered(nlm, tmp_path):
    argv = ("--topology=v5e:4x4", "--mesh=1x16x1")
    _, _, cut = plan(nlm, tmp_path, *argv)
    tmp_path.joinpath("plan.json").unlink()
    status, _, whole = plan(nlm, tmp_path, *argv, "--config.mesh.rules=replicated-base")
    assert status == 0
    assert whole["argument_bytes_per_chip"] > cut["argument_bytes_per_chip"]
    assert whole["collectives"]["all-gather"]["bytes"] < cut["collectives"]["all-gather"]["bytes"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--topology=v5e",), "write KIND:SHAPE"),
        (("--topology=v5e:4x4", "--mesh=4x4"), "--mesh 4x4: write the sizes"),
        (("--topology=v5e:4x4", "--mesh=3x3x1"), "makes 9 but there are 16 devices"),
        (("--topology=v5e:4x4", "--stage=stage9"), "--stage stage9: the config has stage1"),
        (("--topology=v5e:4x4", "--config.model.remat=some"), "remat='some' must be one of none, full"),
        (("--topology=h100:8", "--rows-per-chip=-1"), "must be at least 1"),
    ],
)
def test_mistakes(nlm, tmp_path, argv, says):
    if "4x4" in argv[0]:
        pytest.importorskip("libtpu")
    status, printed, _ = plan(nlm, tmp_path, *argv)
    assert status == 2
    assert says in " ".join(printed.split())
    assert "Traceback" not in printed


def test_figures_of_gpus_are_computed(nlm, tmp_path):
    status, printed, plan_ = plan(nlm, tmp_path, "--topology=h100:8", "--mesh=1x8x1", "--rows-per-chip=2")
    assert status == 0, printed
    assert plan_["rows"] == 16
    assert plan_["source"].startswith("computed")
    assert plan_["roofline_seconds"]["compiler"] == 0


def test_a_step_that_does_not_fit(nlm, tmp_path, monkeypatch):
    import dataclasses

    monkeypatch.setitem(CHIPS, "h100", dataclasses.replace(CHIPS["h100"], hbm=1000))
    argv = ("--topology=h100:8", "--mesh=1x8x1", "--config.stages.0.data.rows=7")
    status, printed, plan_ = plan(nlm, tmp_path, *argv)
    assert status == 3
    assert "the 7 rows of the config do not divide over this mesh: planned with 8" in " ".join(printed.split())
    assert not plan_["fits"]
    assert "its weights and moments alone are" in " ".join(printed.split())


@needs_libtpu
@pytest.mark.slow
def test_8b_on_sixteen_v5e(tmp_path, nlm):
    """Stage 2 of the 8B model, four rows of 1024 tokens a chip, within 14 GiB a chip."""
    out = tmp_path / "plan.json"
    config = pathlib.Path(__file__).resolve().parents[2] / "configs" / "stage2.py"
    argv = ("--topology=v5e:4x4", "--mesh=1x16x1", "--rows-per-chip=4", f"--json={out}")
    assert nlm("plan", f"--config={config}", *argv)[0] == 0
    plan_ = json.loads(out.read_text())
    assert plan_["rows_per_chip"] == 4
    assert plan_["peak_bytes_per_chip"] <= 14 * 2**30

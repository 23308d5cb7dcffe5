"""`nlm demo` in miniature: every step runs, and a second run repeats none of them."""

import dataclasses
import html.parser
import re

import pytest
import rich.console

from nlm_jax.core.config import load
from nlm_jax.core.errors import UserError
from nlm_jax.demo import presets, report
from nlm_jax.demo.run import run, summary
from nlm_jax.train.config import train_config

VOID = {"meta", "img", "br", "line", "rect", "polyline"}


class Tags(html.parser.HTMLParser):
    """Checks that every tag is closed in order, and collects what the page refers to."""

    def __init__(self):
        super().__init__()
        self.open, self.links = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Result, demo, config and directory of a tiny run on the demo's own config, cut down."""
    out = tmp_path_factory.mktemp("demo") / "out"
    values = load("configs/demo.py:" + str(out / "prepared"))
    with values.unlocked():
        for stage in values.stages:
            stage["steps"] = 2
            stage["data"] |= {"rows": 4, "row_tokens": 400, "row_answers": 120}
        values.log.tensorboard = False
        values.model.overrides["beats"] |= {"width": 32, "layers": 1, "mlp": 32, "patch_dim": 16}
        values.model.overrides["qformer"] |= {"width": 32, "layers": 1, "mlp": 32}
        values.mesh.update({"data": 2, "fsdp": 2, "tensor": 2})
    config, demo = train_config(values), presets.tiny(out)
    console = rich.console.Console(quiet=True)
    return run(demo, config, console), demo, config, out


def test_every_step_leaves_its_result(done):
    result, _, _, out = done
    assert {"corpus", "language", "prepare_train", "stage1", "stage2", "export", "answers"} <= set(result["times"])
    assert (out / "export" / "model.safetensors").is_file()
    assert (out / "export" / "llama" / "config.json").is_file()
    assert {row[0] for row in summary(result)} >= {"common-name", "call-type", "instrument", "spoken-word"}
    assert result["reload"]["same_answers"] == result["reload"]["questions"] > 0
    assert result["reload"]["largest_logit_difference"] < 1e-4


def test_second_run_only_reads(done, monkeypatch):
    result, demo, config, _ = done
    for name in ("train", "prepare"):
        monkeypatch.setattr(f"nlm_jax.demo.run.{name}", lambda *a, **k: pytest.fail("already done"))
    again = run(demo, config, rich.console.Console(quiet=True))
    assert again["final"] == result["final"]
    with pytest.raises(UserError, match=r"started with other seed; choose another directory"):
        run(dataclasses.replace(demo, seed=1), config, rich.console.Console(quiet=True))


def test_report_is_one_well_formed_page_without_network(done):
    result, demo, config, out = done
    page = report.write(out / "report.html", result, demo, config).read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.links
    assert all(link.startswith("data:") for link in tags.links)
    assert not re.search(r"@import|url\(|<script", page)
    assert "logistic regression" in page
    assert "95% Wilson interval" in page

"""Strict configs: what is accepted, and the one sentence for everything that is not."""

import ast
import dataclasses
import json
import pathlib
from typing import Any, Literal

import ml_collections
import pytest

from nlm_jax.core import config
from nlm_jax.core.errors import UserError
from nlm_jax.train.config import train_config

CONFIGS = sorted((pathlib.Path(__file__).resolve().parents[2] / "configs").glob("*.py"))


@dataclasses.dataclass(frozen=True)
class Optimizer:
    rate: float = 1e-3
    steps: int = 10
    kind: Literal["adamw", "sgd"] = "adamw"


@dataclasses.dataclass(frozen=True)
class Run:
    name: str
    optimizer: Optimizer = Optimizer()
    mesh: tuple[int, ...] = (1, 8, 1)
    window: tuple[int, float] = (17, 0.5)
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    base: str | None = None
    lora: Optimizer | None = None
    nested: tuple[Optimizer, ...] = ()
    resume: bool = True
    extra: Any = None


def fails(match, *arguments, function=config.build):
    with pytest.raises(UserError, match=match) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)


def test_nested_values():
    run = config.build(
        Run,
        {
            "name": "a",
            "optimizer": {"rate": 1, "kind": "sgd"},
            "mesh": [2, 2, 2],
            "weights": {"x": 1},
            "lora": {"steps": 3},
            "nested": [{"steps": 1}, {"steps": 2}],
        },
    )
    assert run.optimizer == Optimizer(1.0, 10, "sgd")
    assert isinstance(run.optimizer.rate, float)
    assert run.mesh == (2, 2, 2)
    assert run.weights == {"x": 1.0}
    assert run.lora == Optimizer(steps=3)
    assert [o.steps for o in run.nested] == [1, 2]


def test_config_dict_and_mapping_agree():
    values = {"name": "a", "optimizer": {"steps": 4}, "mesh": (1, 1, 1)}
    assert config.build(Run, ml_collections.ConfigDict(values)) == config.build(Run, values)


def test_a_built_one_passes_through():
    run = Run("a")
    assert config.build(Run, run) is run


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": "a", "optimiser": {}}, r"config\.optimiser: no such field; did you mean 'optimizer'\?"),
        ({"name": "a", "optimizer": {"stesp": 1}}, r"config\.optimizer\.stesp: no such field; did you mean 'steps'\?"),
        ({"name": "a", "qqq": 1}, r"config\.qqq: no such field; valid names: base, extra, lora"),
        ({}, r"config\.name: required and not given"),
        ({"name": 3}, r"config\.name: expected str, got 3"),
        ({"name": "a", "resume": 1}, r"config\.resume: expected bool, got 1"),
        ({"name": "a", "optimizer": {"steps": 1.5}}, r"config\.optimizer\.steps: expected int, got 1\.5"),
        ({"name": "a", "optimizer": {"steps": True}}, r"config\.optimizer\.steps: expected int, got True"),
        ({"name": "a", "optimizer": {"rate": "fast"}}, r"config\.optimizer\.rate: expected float, got 'fast'"),
        (
            {"name": "a", "optimizer": {"kind": "adam"}},
            r"config\.optimizer\.kind: must be one of 'adamw', 'sgd', got 'adam'",
        ),
        ({"name": "a", "optimizer": 3}, r"config\.optimizer: expected the fields of Optimizer, got 3"),
        ({"name": "a", "mesh": "1x8x1"}, r"config\.mesh: expected a list, got '1x8x1'"),
        ({"name": "a", "mesh": [1, "8", 1]}, r"config\.mesh\[1\]: expected int, got '8'"),
        ({"name": "a", "window": [17]}, r"config\.window: expected 2 values, got 1"),
        ({"name": "a", "weights": [1]}, r"config\.weights: expected a mapping, got \[1\]"),
        ({"name": "a", "weights": {"x": "y"}}, r"config\.weights\.x: expected float, got 'y'"),
        ({"name": "a", "base": 1}, r"config\.base: expected str, got 1"),
        ({"name": "a", "lora": {"rat": 1}}, r"config\.lora\.rat: no such field; did you mean 'rate'\?"),
        ({"name": "a", "nested": [{}, {"steps": "x"}]}, r"config\.nested\[1\]\.steps: expected int, got 'x'"),
    ],
)
def test_what_build_refuses(values, sentence):
    fails(sentence, Run, values)


@pytest.fixture
def file(tmp_path):
    """A config file with nested fields; returns its path."""
    path = tmp_path / "some.py"
    path.write_text(
        "import ml_collections\n"
        "def get_config(size='small'):\n"
        "    c = ml_collections.ConfigDict({'name': size, 'optimizer': {'rate': 1e-3, 'steps': 10},\n"
        "        'mesh': (1, 8, 1), 'sizes': [5, 6], 'resume': True, 'weights': {'x': 1.0}})\n"
        "    c.base = ml_collections.config_dict.placeholder(str)\n"
        "    return c\n"
    )
    return path


def test_load(file):
    assert config.load(file).name == "small"
    assert config.load(f"{file}:large").name == "large"


def test_overrides(file):
    loaded = config.load(
        file,
        [
            "--config.optimizer.steps=3",
            "--config.optimizer.rate=1",
            "--config.mesh=(2,2,2)",
            "--config.name=7",
            "--config.base=dir/a=b",
            "--config.sizes.1=9",
            "--config.resume=False",
            "--config.weights.x=0.5",
        ],
    )
    assert loaded.optimizer.to_dict() == {"rate": 1.0, "steps": 3}
    assert isinstance(loaded.optimizer.rate, float)
    assert (loaded.mesh, loaded.name, loaded.base, loaded.resume) == ((2, 2, 2), "7", "dir/a=b", False)
    assert loaded.sizes[1] == 9
    assert loaded.weights.x == 0.5


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("--config.optimizer.stpes=3", r"--config\.optimizer\.stpes: no such field; did you mean 'steps'\?"),
        ("--config.optimiser.steps=3", r"--config\.optimiser\.steps: no such field; did you mean 'optimizer'\?"),
        ("--config.name.length=3", r"--config\.name\.length: no such field"),
        ("--config.optimizer.steps=many", r"--config\.optimizer\.steps: expected int as in 10, got 'many'"),
        ("--config.optimizer.steps=1.5", r"--config\.optimizer\.steps: expected int as in 10, got '1\.5'"),
        ("--config.optimizer.steps=True", r"--config\.optimizer\.steps: expected int as in 10, got 'True'"),
        ("--config.resume=yes", r"--config\.resume: expected bool as in True, got 'yes'"),
        ("--config.mesh=8", r"--config\.mesh: expected tuple as in \(1, 8, 1\), got '8'"),
        ("--config.sizes.2=9", r"--config\.sizes\.2: '2' is not an index of a list of 2"),
        ("--config.optimizer.steps", r"--config\.optimizer\.steps: an override reads --config\.field=value"),
    ],
)
def test_what_overrides_refuse(file, override, sentence):
    fails(sentence, file, [override], function=config.load)


def test_overrides_of_what_the_file_leaves_out(file):
    loaded = config.load(
        file,
        ["--config.lora.rate=1", "--config.optimizer.kind=sgd", "--config.nested=[{'steps': 3}]", "--config.extra=2"],
        Run,
    )
    assert loaded.lora.rate == 1.0
    assert loaded.optimizer.kind == "sgd"
    assert loaded.nested[0]["steps"] == 3
    config._override(loaded, "--config.nested.0.steps=4", Run)
    assert config.build(Run, {k: v for k, v in loaded.items() if k in ("name", "nested", "lora")}).nested[0].steps == 4
    for override, sentence in (
        ("--config.lora.rat=1", r"--config\.lora\.rat: no such field; did you mean 'rate'\?"),
        ("--config.lora.steps=x", r"--config\.lora\.steps: expected int, got 'x'"),
        ("--config.optimizer=3", r"--config\.optimizer: is a group of fields; set one of them: rate, steps"),
    ):
        fails(sentence, file, [override], Run, function=config.load)


def test_a_line_is_named_of_a_relative_path_too(file, monkeypatch):
    file.write_text("\n\n1 / 0\n")
    monkeypatch.chdir(file.parent)
    fails(r"some\.py: line 3 raises ZeroDivisionError", file.name, function=config.load)


def test_an_unexpected_argument(file):
    file.write_text("def get_config():\n    return {}\n")
    fails(r"some\.py:small: its get_config\(\) takes no argument", f"{file}:small", function=config.load)


def test_overrides_of_lists_and_of_free_names(tmp_path):
    """What only the dataclass knows: a tuple of texts is no text, and the names of a `dict` field are free."""
    from nlm_jax.train.config import TrainConfig, train_config

    (tmp_path / "some.py").write_text("def get_config():\n    return {'stages': [{'steps': 1}]}\n")
    flags = ["stages.0.data.train=('a', 'b')", "stages.0.data.mixture.domain.animal=2", "tokenizer=x"]
    flags += [f"model.overrides.{text}" for text in ("llama.lora.rank=2", "llama.layers=1", "end_sym=x")]
    loaded = config.load(tmp_path / "some.py", [f"--config.{text}" for text in flags], TrainConfig)
    cfg = train_config(loaded)
    assert cfg.stages[0].data.train == ("a", "b")
    assert cfg.stages[0].data.mixture.domain == {"animal": 2.0}
    assert cfg.model.overrides == {"llama": {"lora": {"rank": 2}, "layers": 1}, "end_sym": "x"}
    for text, says in (
        ("stages.0.data.mixture.domain.animal=much", "domain.animal: expected float, got 'much'"),
        ("foo=1", "valid names: checkpoint, compile_cache, eval, init, log, mesh, model, seed, stages, "),
    ):
        fails(says, tmp_path / "some.py", [f"--config.{text}"], TrainConfig, function=config.load)


def test_an_empty_placeholder_keeps_its_type(file):
    assert config.load(file, ["--config.base=7"]).base == "7"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, r"--config=.*some\.py: no such file"),
        ("def get_config(:\n", r"--config=.*some\.py: line 1 is not valid Python"),
        ("x = 1\n", r"--config=.*some\.py: the file defines no get_config\(\)"),
        ("get_config = 3\n", r"the file defines no get_config\(\)"),
        ("def get_config():\n    return {}['x']\n", r"some\.py: line 2 raises KeyError: 'x'"),
        ("\nimport no_such_module\n", r"some\.py: line 2 raises ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)\n", r"some\.py: line 1 raises SystemExit: 3"),
        ("def get_config():\n    return 3\n", r"get_config\(\) must return the fields of a config, returned 3"),
        ("def get_config():\n    pass\n", r"returned None"),
    ],
)
def test_what_load_refuses(file, text, sentence):
    file.unlink() if text is None else file.write_text(text)
    fails(sentence, file, function=config.load)


def test_not_python(tmp_path):
    (tmp_path / "some.yaml").write_text("a: 1\n")
    fails(r"some\.yaml: not a Python file", tmp_path / "some.yaml", function=config.load)


def test_a_folder_is_no_config(tmp_path):
    fails("no such file", tmp_path, function=config.load)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_that_ships(path, tmp_path):
    manifest = {"examples": 40, "splits": {"train": 32, "valid": 8}, "text": {"tokens_without_audio": {"max": 50}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    argument = f":{tmp_path}" if path.stem == "finetune" else ""
    assert train_config(config.load(f"{path}{argument}")).stages
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    for word in ("command", "hardware", "time", "numbers"):
        assert f"\n{word} " in f"\n{docstring}", f"its header does not say: {word}"


def test_free_fields_are_plain_dicts():
    """Nested overrides of a config file arrive as dicts, which are merged level by level, and not as a ConfigDict."""
    from nlm_jax.train.config import ModelSetup

    flags = ml_collections.ConfigDict({"overrides": {"llama": {"lora": {"rank": 2}}}})
    overrides = config.build(ModelSetup, flags).overrides
    assert type(overrides["llama"]) is dict
    assert type(overrides["llama"]["lora"]) is dict


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("c.py", ("c.py", "", "")),
        ("c.py:data,model", ("c.py", ":", "data,model")),
        ("c.py:gs://b/data", ("c.py", ":", "gs://b/data")),
        ("gs://b/c.py:gs://b/data", ("gs://b/c.py", ":", "gs://b/data")),
        ("train.yml:x", ("train.yml", ":", "x")),
    ],
)
def test_the_argument_of_a_config(path, parts):
    assert config._split_argument(path) == parts

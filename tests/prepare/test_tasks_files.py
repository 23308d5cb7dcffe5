"""Task files: the package's own are complete and kept apart; each mistake in one's own gets its sentence."""

import argparse
import json
import pathlib
import re

import pytest

from nlm_jax import cli
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import FACTS
from nlm_jax.data.text import PLACEHOLDER
from nlm_jax.prepare.tasks import command, fields, sample, schema, templates
from nlm_jax.prepare.tasks.generate import instruct

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAPER = {  # what the paper trains, and the names of it here
    "names": [f"{k}-classification" for k in ("common", "scientific", "taxonomic", "genus", "family", "order")],
    "candidates": [
        f"{k}-classification-options" for k in ("common", "scientific", "taxonomic", "genus", "family", "order")
    ],
    "context": [f"{k}-classification-context" for k in ("common", "scientific", "taxonomic")],
    "detection": [f"{k}-detection-{how}" for k in ("common", "sci") for how in ("easy", "hard", "random")]
    + [f"{k}-{how}-detection" for k in ("common", "sci") for how in ("simple", "multiple")],
    "calls": ["call-type", "call-type-with-species", "call-or-song", "lifestage", "lifestage-with-species"],
    "captions": [f"caption-{k}{how}" for k in ("common", "scientific") for how in ("", "-rich", "-templated")],
    "counting": ["zf-indiv", "individual-count"],
    "music": ["pitch", "instrument", "velocity", "quality", "instrument-count"],
    "speech": ["speech-nspeakers", "speech-gender", "speech-word", "speech-speaker"],
    "environment": ["sound-classification", "sound-classification-options", "sound-detection"],
    "in context": ["icl-classification", "icl-presence"],
    "comparison": [
        f"compare-{k}"
        for k in (
            *("same-species", "odd-one-out", "contains", "more-individuals", "pitch-order", "match-to-sample"),
            *("same-call-type", "same-speaker"),
        )
    ],
}
BEANS_ZERO = [  # the benchmark's prompts, as published
    ("common-classification", "What is the common name for the focal species in the audio?"),
    ("scientific-classification", "What is the scientific name for the focal species in the audio?"),
    ("taxonomic-classification", "What is the taxonomic name of the focal species in the audio?"),
    ("common-simple-detection", "What are the common names for the species in the audio, if any?"),
    ("common-detection-random", "Which of these, if any, are present in the audio recording? {options}"),
    ("common-detection-hard", "Which of these, if any, are present in the audio recording? {options}."),
    ("lifestage", "What is the life stage of the focal species in the audio?"),
    (
        "call-or-song",
        "What type of vocalization is heard from the focal species in the audio? Answer with either 'call' or 'song'.",
    ),
    ("caption-common", "Caption the audio, using the common name for any animal species."),
    ("zf-indiv", "How many birds are in the audio? Choose between 1, 2, 3 or 4."),
    (
        "sound-classification-options",
        "The objective is to classify the sound into one of the following categories: {options}",
    ),
]
GOOD = """\
habitat:
  about: Where it is.
  needs: [place]
  answer: "{place}"
  train: ["Where is it?", "Name the place.", "Which place is it?"]
  test: ["In what place was this recorded?"]
"""


@pytest.fixture(scope="module")
def tasks():
    return templates.load()


@pytest.mark.parametrize("family", PAPER)
def test_every_task_of_the_paper_is_there(family, tasks):
    for name in PAPER[family]:
        assert name in tasks, f"no task {name}"


def test_phrasings_are_many_and_disjoint(tasks):
    train = {schema.comparable(text) for task in tasks.values() for text in task.train}
    test = {schema.comparable(text) for task in tasks.values() for text in task.test}
    assert not train & test
    for task in tasks.values():
        assert len(set(task.train)) >= 3, task.name
        assert len(task.test) >= 1, task.name
        assert task.about, task.name


@pytest.mark.parametrize(("name", "prompt"), BEANS_ZERO, ids=[name for name, _ in BEANS_ZERO])
def test_prompts_of_the_benchmark_are_test_phrasings(name, prompt, tasks):
    assert prompt in tasks[name].test


def test_names_of_closed_lists_can_be_merged_when_recordings_are_mixed(tasks):
    """The augmentation splits "question? options" at its one question mark."""
    for name in PAPER["detection"]:
        if tasks[name].options:
            for text in tasks[name].train:
                assert text.count("?") == 1, text
                assert text.endswith("? {options}"), text


def test_multi_clip_names_do_not_look_like_detection(tasks):
    """The official loader replaces the audio of every task whose name ends with detection by one noise clip."""
    assert not [t.name for t in tasks.values() if t.clips and t.name.endswith("detection")]
    assert all("icl" in t.name for t in tasks.values() if t.clips and t.clips.kind.startswith("few-shot"))


def test_each_task_fills_its_templates_from_the_sample_recordings(tasks):
    for side in ("train", "test"):
        examples = list(instruct(sample.recordings, 3, tasks, side))
        assert {example.task for example in examples} == set(tasks)
        for example in examples:
            assert not re.search(r"[{}]", example.prompt + example.text), example
            assert example.text.strip(), example
            marks = example.prompt.count(PLACEHOLDER)
            assert marks == len(example.paths) if tasks[example.task].clips else marks == 0


def test_a_folder_overrides_and_adds(tmp_path, tasks):
    (tmp_path / "a.yaml").write_text(GOOD + GOOD.replace("habitat", "lifestage"), encoding="utf-8")
    own_tasks = templates.load(tmp_path)
    assert set(own_tasks) == {*tasks, "habitat"}
    assert own_tasks["lifestage"].answer == ("{place}",)
    assert own_tasks["call-type"] == tasks["call-type"]
    examples = [e.text for e in instruct(sample.recordings, 0, templates.select(own_tasks, "habitat"))]
    assert set(examples) == {"Kerzers"}
    assert templates.digest(own_tasks) != templates.digest(tasks)
    assert templates.digest(templates.load()) == templates.digest(tasks)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Where is it?", "Where is {plaec}?", r"a\.yaml: habitat: train: \{plaec\}.*did you mean \{place\}"),
        ("Where is it?", "Where is {country}?", r"a\.yaml: habitat: train: \{country\}.*under needs"),
        ("Where is it?", "Which of {options}?", r"a\.yaml: habitat: train: \{options\}.*entries with `options`"),
        ("Where is it?", "Where is {?", r"a\.yaml: habitat: train: .*braces"),
        ("Where is it?", "Where is {}?", r"a\.yaml: habitat: train: .*name in braces"),
        ("Where is it?", "<AudioHere> Where is it?", r"a\.yaml: habitat: train: .*AudioHere"),
        ("Where is it?", "in  what place WAS this recorded?", r"habitat: the test phrasing .* its own train list"),
        (
            "Where is it?",
            "What is the genus of the focal species in the audio?",
            r"genus-classification: .*list of habi",
        ),
        ("Where is it?", "Name the place. ", r"a\.yaml: habitat: train holds 'Name the place.' twice"),
        ('"Where is it?"', "Yes", r"a\.yaml: habitat: train holds True, which is not text; put quotes"),
        ('"Where is it?"', '""', r"a\.yaml: habitat: train holds ''"),
        ("  test: ", "  tset: ", r"a\.yaml: habitat: unknown field 'tset'"),
        ('  test: ["In what place was this recorded?"]\n', "", r"a\.yaml: habitat: test must be a list.* missing"),
        ("  train: ", "  train: []\n  about: ", r"a\.yaml:\d: 'about' is there twice"),
        ('  answer: "{place}"\n', "", r"a\.yaml: habitat: answer must be a list of texts, is missing"),
        ('"{place}"', '"{plane}"', r"a\.yaml: habitat: answer: \{plane\}"),
        ("[place]", "[plaec]", r"a\.yaml: habitat: needs 'plaec'"),
        ("[place]", "place", r"a\.yaml: habitat: needs must be a list"),
        ("[place]", "[place]\n  context: [weather]", r"a\.yaml: habitat: context holds 'weather'"),
        ("[place]", "[place]\n  context: [time]", r"lacks \{context\}"),
        ("[place]", "[place]\n  options: {of: place, most: 0}", r"habitat: options: most must be a whole number"),
        ("[place]", "[place]\n  options: {of: place, absent: 2}", r"habitat: options: absent must lie between"),
        ("[place]", "[place]\n  options: {of: nowhere}", r"habitat: options: of must be a field"),
        ("[place]", "[place]\n  options: {most: 3}", r"habitat: options: of is missing"),
        ("[place]", "[place]\n  options: {of: place, negatives: hard}", r"hard negatives of place do not exist"),
        ("[place]", "[place]\n  options: {of: place, negatives: rude}", r"negatives must be one of mixed, random"),
        ("[place]", "[place]\n  options: {of: place}", r"lacks \{options\}"),
        ("[place]", "[place]\n  clips: {kind: few, of: place}", r"clips: kind must be one of few-shot"),
        ("[place]", "[place]\n  clips: {kind: same, of: [place], count: [3, 2]}", r"count must be \[fewest, most\]"),
        ("[place]", "[place]\n  ask: {of: place}\n  options: {of: place}", r"more than one of options, ask and clips"),
        ("habitat:\n", "habitat:\n  - ", r"a\.yaml"),
        ("habitat:", "7:", r"a\.yaml:1: 7 is not a name; put quotes"),
    ],
)
def test_mistakes_in_a_file(tmp_path, old, new, message):
    assert old in GOOD
    (tmp_path / "a.yaml").write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        templates.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_other_mistakes(tmp_path, tasks):
    with pytest.raises(UserError, match="no such folder"):
        templates.load(tmp_path / "absent")
    with pytest.raises(UserError, match=r"holds no \.yaml file"):
        templates.load(tmp_path)
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(GOOD)
    with pytest.raises(UserError, match=r"b\.yml: habitat: is already in .*a\.yaml"):
        templates.load(tmp_path)
    (tmp_path / "b.yml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        templates.load(tmp_path)
    for text in ("", "just text", "- a\n- b\n", "habitat: 3\n", "a: [\n"):
        (tmp_path / "b.yml").write_text(text)
        with pytest.raises(UserError, match=r"b\.yml"):
            templates.load(tmp_path)
    with pytest.raises(UserError, match="did you mean 'lifestage'"):
        templates.select(tasks, "life-stage")
    with pytest.raises(UserError, match="no task is named"):
        templates.select(tasks, " , ")
    assert list(templates.select(tasks, ["lifestage", "compare-same-s*"])) == [
        name for name in tasks if name == "lifestage" or name.startswith("compare-same-s")
    ]


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(a) for a in arguments]))


def test_nlm_data_tasks_is_a_command(capsys):
    assert cli.main(["data", "tasks", "--tasks", "lifestage"]) == 0
    assert "The life stage of the focal animal" in capsys.readouterr().out
    assert cli.main(["data", "tasks", "--tasks", "lifestag"]) == 2
    assert capsys.readouterr().err == "nlm data: error: no task 'lifestag'; did you mean 'lifestage'?\n"


def test_command_lists_shows_and_writes_the_official_files(tmp_path, tasks, capsys):
    assert run("--out", tmp_path / "prompts", "--side", "test") == 0
    stdout = capsys.readouterr().out
    assert "no example of" not in stdout
    assert all(name in stdout for name in ("taxonomic-classification", "compare-odd-one-out", "train_prompt.json"))
    assert "Chordata Aves Passeriformes" in stdout
    for side in ("train", "test"):
        prompts = json.loads((tmp_path / "prompts" / f"{side}_prompt.json").read_text(encoding="utf-8"))
        assert set(prompts) == set(tasks)
        assert all(PLACEHOLDER in p for name, ps in prompts.items() for p in ps if not tasks[name].clips)
    assert prompts["lifestage"][0] == "<Audio><AudioHere></Audio> " + tasks["lifestage"].test[0]
    assert run("--out", tmp_path / "prompts", "--limit", 0) == 0  # the same content again is accepted
    with pytest.raises(UserError, match=r"train_prompt\.json: is there already"):
        run("--out", tmp_path / "prompts", "--tasks", "lifestage", "--limit", 0)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        run("--out", tmp_path / "file", "--limit", 0)
    with pytest.raises(UserError, match="--limit -1"):
        run("--limit", -1)


def test_command_shows_what_annotations_would_give(tmp_path, capsys):
    row = {"path": "a.wav", "prompt": "p", "text": "t", "task": "k"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n")
    assert run(tmp_path / "x.jsonl", "--tasks", "lifestage") == 0
    assert "no example of lifestage" in capsys.readouterr().out
    assert run("--json", "--tasks", "lifestage,icl-presence", "--limit", 2) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["task"] for line in lines] == ["lifestage"] * 2 + ["icl-presence"] * 2
    assert all(len(line["files"]) == line["prompt"].count(PLACEHOLDER) for line in lines[2:])


def test_documentation_names_every_placeholder_and_task(tasks):
    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    for name in (*fields.DERIVED, *schema.BUILT_PLACEHOLDERS, *schema.COMPARISONS, *tasks):
        assert f"`{name}`" in text or f"`{{{name}}}`" in text, f"docs/tasks.md says nothing about {name}"
    assert set(FACTS) <= fields.NAMES

"""The demo from start to end: corpus, tiny LLM and encoder, prepare, two stages, export, evaluation, baselines."""

import concurrent.futures
import dataclasses
import os
import pathlib
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import rich.console
from flax import nnx

import nlm_jax
from nlm_jax.convert.checkpoint import Checkpoint
from nlm_jax.convert.formats import save
from nlm_jax.convert.run_file import CHECKPOINTS
from nlm_jax.convert.saved import finished
from nlm_jax.core.errors import UserError
from nlm_jax.core.tree import named_leaves
from nlm_jax.demo import corpus, data, encoder, questions
from nlm_jax.demo.encoder import EncoderConfig
from nlm_jax.demo.language import LanguageConfig, pretrain
from nlm_jax.demo.scene import FULL, Sizes
from nlm_jax.demo.steps import Steps, progress_printer
from nlm_jax.evaluate import baselines
from nlm_jax.evaluate.accuracy import Prediction, score_by_task
from nlm_jax.generate.api import NatureLM
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare
from nlm_jax.train.config import Init, TrainConfig
from nlm_jax.train.loop import train
from nlm_jax.train.weights import resolve_model

BATCH = 64  # questions per batch of generation
ENCODER_SECONDS = 10.0  # of a real recording, used for pre-training the encoder
MARGIN = 0.4  # seconds by which clips are longer than the random crops of training


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """Settings of the demo except those of training, which are in `configs/`."""

    out: pathlib.Path
    recordings: pathlib.Path | None = None
    """Folder with a manifest.jsonl of real recordings; None = the synthetic corpus."""
    seed: int = 0
    sizes: Sizes = dataclasses.field(default_factory=Sizes)
    language: LanguageConfig = dataclasses.field(default_factory=LanguageConfig)
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    answers: int = 0
    """Held-out questions evaluated per task (0 = all)."""
    naming: str = "common-name"
    """The task stage 1 is scored on."""
    max_new_tokens: int = 48
    notes: tuple[str, ...] = ()
    """Sentences for the report."""


def run(demo: DemoConfig, config: TrainConfig, console: rich.console.Console) -> dict[str, Any]:
    """Runs every unfinished step and returns the data of the report.

    Raises:
      UserError: an output directory with other content, a corpus without questions, or a config of another mesh.
    """
    if len(config.stages) != 2:
        raise UserError(f"config.stages: the demo runs two stages, the config has {len(config.stages)}")
    out, seconds = demo.out.absolute(), config.stages[0].data.seconds
    plan = dataclasses.asdict(dataclasses.replace(demo, out=pathlib.Path())) | {"train": dataclasses.asdict(config)}
    steps = Steps(out, {name: str(value) for name, value in plan.items()}, console)

    # --- sounds and questions -----------------------------------------------------------------------------------------
    if demo.recordings is None:
        annotations = {split: out / "corpus" / f"{split}.jsonl" for split in corpus.SPLITS}
        steps.run("corpus", "synthesise the corpus", lambda: _synthesise(demo, seconds + MARGIN), clear=out / "corpus")
    else:
        annotations = dict.fromkeys(corpus.SPLITS, demo.recordings / "manifest.jsonl")
    examples = {split: data.read(path, split) for split, path in annotations.items()}
    load = data.waves(annotations["train"].parent, seconds)

    # --- a language model pre-trained on text only -------------------------------------------------------------------
    llama = out / "llama"
    language_result = steps.run(
        "language",
        "train a tokenizer and a tiny Llama on the corpus's text",
        lambda: _language(demo, examples["train"], llama, console),
    )

    # --- an encoder pre-trained on sound tags only --------------------------------------------------------------------
    beats = out / "beats"
    encoder_result = steps.run(
        "encoder",
        "train a tiny BEATs on sound tags",
        lambda: _encoder(demo, config, examples["train"], annotations["train"].parent, beats, console),
        clear=beats,
    )

    # --- recordings to shards, both stages on the mesh ----------------------------------------------------------------
    for split, path in annotations.items():
        work = lambda s=split, p=path: prepare(  # noqa: E731
            PrepareOptions(p, out / "prepared" / s, split=s, tokenizer=str(llama), shard_size=256),
            workers=2,
            console=console,
        )
        manifest = steps.run(f"prepare_{split}", f"prepare the {split} split", work)
        console.print(f"  {split}: {manifest['clips']} clips, {manifest['examples']} questions", highlight=False)
    runs = [out / stage.name for stage in config.stages]
    for index, stage in enumerate(config.stages):
        init = Init(llama=str(llama), beats=str(beats)) if index == 0 else Init(run=str(runs[0]), run_which=stage.start)
        _train(dataclasses.replace(config, stages=(stage,), init=init), runs[index], console, steps, stage.name)
        if index == 0:
            naming = data.questions(examples["valid"], [demo.naming], demo.answers)
            first = steps.run(
                "answers_stage1", "evaluate the model after stage 1", lambda q=naming: _answer(runs[0], q, load, demo)
            )

    # --- export to the official layout, reload, evaluate --------------------------------------------------------------
    exported = out / "export"
    steps.run("export", "export to the official layout", lambda: _export(runs[1], exported), clear=exported)
    closed = tuple(t for t in dict.fromkeys(e.task for e in examples["valid"]) if t != "captioning")
    held_out = data.questions(examples["valid"], closed, demo.answers)
    final = steps.run("answers", "reload the export and evaluate it", lambda: _answer(exported, held_out, load, demo))
    same = steps.run(
        "reload",
        "compare the export with the run it came from",
        lambda: _compare(runs[1], exported, held_out[:: max(1, len(held_out) // 48)], load, demo),
    )
    captions = data.questions(examples["valid"], ["captioning"], 12)
    if captions:
        captions = steps.run("captions", "caption some clips", lambda q=captions: _answer(exported, q, load, demo))

    # --- baselines ----------------------------------------------------------------------------------------------------
    base = steps.run(
        "baselines", "majority class and logistic regression", lambda: _baselines(examples, held_out, load)
    )
    return {
        "stage1": _predictions(first),
        "final": _predictions(final),
        "captions": _predictions(captions),
        "baselines": {name: _predictions(rows) for name, rows in base.items()},
        "language_loss": language_result["loss"],
        "encoder_loss": encoder_result["loss"],
        "runs": runs,
        "times": steps.times(),
        "reload": same,
        "versions": _versions(),
        "root": annotations["train"].parent,
        "counts": {split: (len({e.paths[0] for e in rows}), len(rows)) for split, rows in examples.items()},
    }


def _synthesise(demo: DemoConfig, seconds: float) -> dict[str, int]:
    # For a small corpus, starting worker processes takes longer than the work.
    workers = min(8, os.cpu_count() or 1) if demo.sizes == FULL else 0
    corpus.write(demo.out / "corpus", demo.seed, demo.sizes, seconds, workers)
    return {"clips": sum(1 for _ in corpus.scenes(demo.seed, demo.sizes))}


def _language(demo: DemoConfig, examples, folder: pathlib.Path, console) -> dict[str, Any]:
    if demo.recordings is None:
        scenes = corpus.scenes(demo.seed, demo.sizes)
        descriptions = {f"audio/{scene.name}": questions.description(scene) for scene in scenes}
    else:
        descriptions = data.descriptions_from_answers(examples)
    tokenizer = data.tokenizer(examples, descriptions, demo.language.vocabulary)
    tokenizer.save(folder)
    texts, share = data.texts(tokenizer, examples, descriptions, demo.language.weights)
    with progress_printer(console, "language model") as report:
        model, loss = pretrain(texts, share, tokenizer.vocab_size, demo.language, report)
    whole = NatureLMConfig(llama=model.cfg)
    leaves = {f"llama/{path}": leaf for path, leaf in named_leaves(nnx.state(model)).items()}
    checkpoint = Checkpoint(whole, leaves, tokenizer=folder)
    new = folder.parent / "llama.new" / folder.name  # the title of the model card is the name of the folder
    save(checkpoint, new, "llama-merged", overwrite=True)
    for file in new.iterdir():
        file.replace(folder / file.name)
    shutil.rmtree(new.parent)
    return {"loss": [round(value, 4) for value in loss], "vocabulary": tokenizer.vocab_size}


def _encoder(
    demo: DemoConfig, config: TrainConfig, examples, root: pathlib.Path, folder: pathlib.Path, console
) -> dict[str, Any]:
    seconds = config.stages[0].data.seconds
    if demo.recordings is None:
        tags = {f"audio/{scene.name}": encoder.tags(scene) for scene in corpus.scenes(demo.seed, demo.sizes)}
    else:
        tags = {e.paths[0]: (e.label,) for e in examples}
    paths = list(dict.fromkeys(e.paths[0] for e in examples))
    load = data.waves(root, seconds + MARGIN if demo.recordings is None else ENCODER_SECONDS)
    mel = encoder.features([load(path) for path in paths])
    sizes = resolve_model(config, [], 1).beats
    with progress_printer(console, "encoder") as report:
        model, loss = encoder.pretrain(mel, [tags[path] for path in paths], seconds, sizes, demo.encoder, report)
    leaves = {f"beats/{path}": leaf for path, leaf in named_leaves(nnx.state(model)).items() if "predictor" not in path}
    save(Checkpoint(NatureLMConfig(beats=sizes), leaves), folder, "beats")
    return {"loss": [round(value, 4) for value in loss], "tags": sorted({tag for path in paths for tag in tags[path]})}


def _train(config: TrainConfig, workdir: pathlib.Path, console, steps: Steps, name: str) -> None:
    def work() -> dict[str, int]:
        status = train(config, workdir, console=console)
        last = config.stages[-1]
        if status or finished(workdir / CHECKPOINTS / last.name / "last")[-1:] != [last.steps]:
            raise KeyboardInterrupt  # stopped by a signal and saved; the same command resumes
        return {"steps": config.stages[0].steps}

    steps.run(name, f"train {name} ({config.stages[0].steps} steps)", work)


def _answer(model: pathlib.Path, questions: Sequence[Prediction], load, demo: DemoConfig) -> list[dict[str, str]]:
    loaded = NatureLM.from_pretrained(model, dtype="float32")
    answers = loaded.generate(
        [load(q.path) for q in questions],
        [q.prompt for q in questions],
        max_new_tokens=demo.max_new_tokens,
        batch_size=BATCH,
    )
    return [
        dataclasses.asdict(dataclasses.replace(q, answer=a.strip())) for q, a in zip(questions, answers, strict=True)
    ]


def _export(workdir: pathlib.Path, out: pathlib.Path) -> dict[str, int]:
    NatureLM.from_pretrained(workdir, dtype="float32").save_pretrained(out, "naturelm", with_base=True)
    return {file.name: file.stat().st_size for file in sorted(out.iterdir()) if file.is_file()}


def _compare(before: pathlib.Path, after: pathlib.Path, questions, load, demo: DemoConfig) -> dict[str, Any]:
    """Answers and teacher-forced logits of the run and of its reloaded export, on some questions."""
    answers, logits = [], []
    for model in (before, after):
        loaded = NatureLM.from_pretrained(model, dtype="float32")
        sounds = [load(q.path) for q in questions]
        prompts = [f"<Audio><AudioHere></Audio> {q.prompt}" for q in questions]
        answers.append(loaded.generate(sounds, prompts, max_new_tokens=demo.max_new_tokens, batch_size=BATCH))
        logits.append(
            np.asarray(loaded.logits(prompts[:4], [q.expected for q in questions[:4]], [[s] for s in sounds[:4]]))
        )
    equal = sum(a == b for a, b in zip(*answers, strict=True))
    return {
        "questions": len(questions),
        "same_answers": equal,
        "largest_logit_difference": float(np.abs(logits[0] - logits[1]).max()),
    }


def _baselines(examples, held_out: list[Prediction], load) -> dict[str, list[dict[str, str]]]:
    names = {e.paths[0]: e.text for rows in examples.values() for e in rows if e.task == "common-name"}
    training = [Prediction(e.task, e.text, "", e.paths[0], e.prompt) for e in examples["train"]]
    # Detection: the regression predicts the species; an answer that is not among the options becomes "None".
    training = [
        dataclasses.replace(q, expected=names.get(q.path, "None")) if "detection" in q.task else q for q in training
    ]
    paths = list(dict.fromkeys(q.path for q in (*training, *held_out)))
    with concurrent.futures.ThreadPoolExecutor(
        os.cpu_count()
    ) as pool:  # decoding and FFTs release the interpreter lock
        features = dict(zip(paths, pool.map(lambda path: baselines.statistics(load(path)), paths), strict=True))

    def restrict(question: Prediction, answer: str) -> str:
        return answer if "detection" not in question.task or answer in question.prompt else "None"

    predictions = baselines.predict(training, held_out, features.__getitem__, restrict)
    majority = {
        t: baselines.majority([e.text for e in examples["train"] if e.task == t])
        for t in {q.task for q in predictions["majority"]}
    }
    predictions["majority"] = [dataclasses.replace(q, answer=majority[q.task]) for q in predictions["majority"]]
    return {name: [dataclasses.asdict(q) for q in rows] for name, rows in predictions.items()}


def _predictions(rows: Sequence[dict[str, str]]) -> list[Prediction]:
    return [Prediction(**row) for row in rows]


def _versions() -> dict[str, str]:
    import flax
    import jaxlib
    import optax

    return {
        "nlm_jax": nlm_jax.__version__,
        "python": sys.version.split()[0],
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
        "numpy": np.__version__,
        "devices": f"{jax.device_count()} {jax.devices()[0].platform}",
    }


def summary(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the per-task table: task, questions, model, interval, majority, logistic regression."""
    model = score_by_task(result["final"])
    base = {name: score_by_task(rows) for name, rows in result["baselines"].items()}
    rows = []
    for task, s in model.items():
        others = [f"{base[n][task].accuracy:.1%}" if task in base[n] else "" for n in ("majority", "logistic")]
        rows.append((task, str(s.count), f"{s.accuracy:.1%}", f"{s.low:.1%} to {s.high:.1%}", *others))
    return rows

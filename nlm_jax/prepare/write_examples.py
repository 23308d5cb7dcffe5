"""The examples whose clips exist, their index, and the lists of what was left out."""

import array
import collections
import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TextIO

import numpy as np

from nlm_jax.core.errors import UserError
from nlm_jax.core.files import printable, write_json
from nlm_jax.data import shards
from nlm_jax.data.schema import Example, lineage
from nlm_jax.data.text import Tokenizer, build_sequence, normalize_query
from nlm_jax.prepare.annotations import Annotations, Exclusion
from nlm_jax.prepare.clip_index import ClipIndex
from nlm_jax.prepare.dedup import Repeats
from nlm_jax.prepare.notes import RECORDING
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.survey import Survey

NO_TEXT = "its question or answer has bytes that are no text; write the name of the file, folder or label in UTF-8"


class ExampleTable:
    """The index under construction: one entry per example in every column; names of tasks etc. are stored once."""

    def __init__(self):
        self.columns: dict[str, array.array] = collections.defaultdict(lambda: array.array("q"))
        self.names: dict[str, dict[str, int]] = {key: {} for key in ("task", "domain", "licence", "split")}
        self.taxa: dict[str, int] = {}
        self.clips = array.array("q")
        """The clips of all examples, one after the other; column "clip_end" says where those of each end."""

    def __len__(self) -> int:
        return len(self.columns["task"])

    def add(self, example: Example, clips: list[int], text_tokens: int, answer_tokens: int) -> None:
        """Adds an example.

        Args:
          example: what it is about.
          clips: their numbers.
          text_tokens: tokens before the answer, without those of clips.
          answer_tokens: tokens of the answer.
        """
        for key, names in self.names.items():
            self.columns[key].append(names.setdefault(getattr(example, key), len(names)))
        taxon = lineage(example.facts) or example.label
        self.columns["taxon"].append(self.taxa.setdefault(taxon, len(self.taxa)))
        self.columns["text_tokens"].append(text_tokens)
        self.columns["answer_tokens"].append(answer_tokens)
        self.clips.extend(clips)
        self.columns["clip_end"].append(len(self.clips))

    def save(self, options: PrepareOptions, clips: ClipIndex) -> None:
        """Writes `index/*.npy` and `index/taxa.json`."""
        places = {f"clip_{key}": values for key, values in clips.places.items()}
        for key, values in {**self.columns, **places, "clips": self.clips}.items():
            dtype = np.int64 if key == "clip_end" else np.int32
            np.save(options.out / "index" / f"{key}.npy", np.asarray(values, dtype))
        write_json(options.out / "index" / "taxa.json", list(self.taxa))


class LeftOut:
    """Omitted examples: rejects, and training examples that were excluded or dropped."""

    def __init__(self, options: PrepareOptions):
        self.rejects: list[dict[str, Any]] = []
        """Lines of rejects.jsonl."""
        self.rejected = 0
        """Examples that are left out because of `rejects`; one with several clips may be counted in several."""
        self.by_reason: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
        """Training examples by check: "held_out_taxa", "leakage" (both by name), and "dropped" (with their clips)."""
        self._options = options
        self._files: dict[str, TextIO] = {}

    @contextlib.contextmanager
    def open_lists(self, annotations: Annotations) -> Iterator[None]:
        """Opens held_out_taxa.jsonl and leakage.jsonl, for `exclude`."""
        with contextlib.ExitStack() as stack:
            for check, used, mode in (
                ("held_out_taxa", annotations.held_out_taxa, "w"),
                ("leakage", annotations.benchmark, "a"),  # after the clips that `dedup` has listed
            ):
                if used:
                    file = self._options.out / f"{check}.jsonl"
                    opened = file.open(mode, encoding="utf-8", errors="backslashreplace")
                    self._files[check] = stack.enter_context(opened)
            yield

    def exclude(self, exclusion: Exclusion) -> None:
        """Lists and counts a training example that a check found."""
        example = exclusion.example
        entry = {"id": example.id, "where": example.where, "split": example.split}
        if exclusion.check == "leakage":
            entry = {"kind": exclusion.reason, **entry, "name": exclusion.name, "dropped": exclusion.dropped}
        else:
            entry |= {"reason": exclusion.reason, "name": exclusion.name}
        self._files[exclusion.check].write(json.dumps(entry, ensure_ascii=False) + "\n")
        self.by_reason[exclusion.check][exclusion.reason] += 1

    def reject(self, where: str, reason: str) -> None:
        """Lists and counts an example that cannot be used."""
        self.rejects.append(_reject(where, where, reason))
        self.rejected += 1

    def save(self) -> None:
        """Writes rejects.jsonl."""
        lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in self.rejects)
        (self._options.out / "rejects.jsonl").write_text(lines, encoding="utf-8")


def write_examples(
    annotations: Annotations,
    survey: Survey,
    clips: ClipIndex,
    repeats: Repeats,
    tokenizer: Tokenizer,
    advance: Callable[[], object],
) -> tuple[ExampleTable, LeftOut]:
    """Writes the shards of examples, the index, and the lists of what is left out.

    Args:
      annotations: read once more.
      survey: of all examples.
      clips: of all recordings.
      repeats: which clips are dropped from training.
      tokenizer: counts the tokens of prompts and answers.
      advance: called once per example.

    Raises:
      UserError: no example is left.
    """
    options = annotations.options
    table, left_out = ExampleTable(), LeftOut(options)
    blocked, first_use = collections.Counter(), {}

    def clips_of(example: Example) -> list[int] | None:
        """The clips of an example; None if it is left out because of them."""
        rejected = [path for path in example.paths if path in clips.rejected]
        for path in rejected:
            blocked[path] += 1
            first_use.setdefault(path, example.where)
        if rejected:
            left_out.rejected += 1
            return None
        numbers = [clips.clip[survey.paths[path]] for path in example.paths]
        reasons = {repeats.dropped[number] for number in numbers if number in repeats.dropped}
        if reasons and options.is_training(example.split):
            left_out.by_reason["dropped"][min(reasons)] += 1
            return None
        return numbers

    def records() -> Iterator[bytes]:
        for example in annotations.examples(left_out.exclude):
            advance()
            numbers = clips_of(example)
            if numbers is None:
                continue
            if not all(map(_is_text, (example.prompt, example.text, example.label, *example.facts.values()))):
                left_out.reject(example.where, NO_TEXT)
                continue
            query = normalize_query(example.prompt, len(example.paths))
            try:
                sequence = build_sequence(tokenizer, query, example.text, len(example.paths), 0, max_txt_len=1 << 30)
            except UserError as error:
                left_out.reject(example.where, str(error))
                continue
            table.add(example, numbers, sequence.answer_start, sequence.n_answers)
            yield _record(example)

    with left_out.open_lists(annotations):
        _write_shards(options, records())
    rows = [_reject(reject.name, reject.where, reject.reason) for reject in annotations.report.rejects]
    recordings = [
        _reject(name, first_use.get(name, ""), reason, blocked[name], RECORDING)
        for name, reason in clips.rejected.items()
    ]
    left_out.rejects[:0] = [*rows, *recordings]
    left_out.rejected += len(rows)
    left_out.save()
    if not len(table):
        _raise_nothing_left(options, survey, left_out)
    table.save(options, clips)
    return table, left_out


def _write_shards(options: PrepareOptions, records: Iterator[bytes]) -> None:
    shard = 0
    while shards.write_records(
        shards.shard_path(options.out, "examples", shard),
        (record for _, record in zip(range(shards.EXAMPLES_PER_SHARD), records, strict=False)),
        shards.EXAMPLE_OPTIONS,
    ):
        shard += 1
    shards.shard_path(options.out, "examples", shard).unlink()  # the empty one after the last


def _record(example: Example) -> bytes:
    """Stored fields of an example."""
    content = {"id": printable(example.id), "prompt": example.prompt, "text": example.text, "label": example.label}
    if example.facts:
        content["facts"] = dict(example.facts)
    return json.dumps(content, ensure_ascii=False).encode()


def _is_text(text: str) -> bool:
    """Whether a string can be encoded as UTF-8; names of files need not be."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _reject(name: str, where: str, reason: str, examples: int = 1, kind: str = "row") -> dict[str, Any]:
    """A line of rejects.jsonl: a `row` of the annotations, or a `recording` and how many `examples` need it."""
    return {
        "file": printable(name),
        "where": printable(where),
        "reason": printable(reason),
        "kind": kind,
        "examples": examples,
    }


def _raise_nothing_left(options: PrepareOptions, survey: Survey, left_out: LeftOut) -> NoReturn:
    """Removes what would keep the corrected command from starting in the same directory, and raises UserError."""
    shutil.rmtree(options.out / "work")
    (options.out / "plan.json").unlink()
    for file in options.out.glob("*.arrayrecord"):
        file.unlink()
    if not left_out.rejects:
        raise UserError(
            f"{options.annotations}: none of its {survey.examples} examples is left: all are duplicates or in the "
            f"benchmark; see duplicates.jsonl and leakage.jsonl in {options.out}"
        )
    where, reason = left_out.rejects[0]["where"], left_out.rejects[0]["reason"]
    raise UserError(
        f"{options.annotations}: none of its {survey.examples} examples can be used; the first is left out because of "
        f"{reason if reason.startswith(where) else f'{where}: {reason}'}. All reasons are in "
        f"{options.out / 'rejects.jsonl'}"
    )

"""The last stage but one of `nlm prepare`: the examples whose clips are there, their index, and what was left out."""

import array
import collections
import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

from nlm_jax.core.errors import UserError
from nlm_jax.core.files import printable, write_json
from nlm_jax.data import shards
from nlm_jax.data.schema import Example, lineage
from nlm_jax.data.text import Tokenizer, build_sequence, normalize_query
from nlm_jax.prepare.dedup import Repeats
from nlm_jax.prepare.notes import RECORDING
from nlm_jax.prepare.options import Options
from nlm_jax.prepare.survey import Survey, selected
from nlm_jax.prepare.write_clips import Clips

NO_TEXT = "its question or answer has bytes that are no text; write the name of the file, folder or label in UTF-8"


class Table:
    """The index under construction: one entry an example in every column, names of tasks etc. once."""

    def __init__(self):
        self.columns: dict[str, array.array] = collections.defaultdict(lambda: array.array("q"))
        self.names: dict[str, dict[str, int]] = {k: {} for k in ("task", "domain", "licence", "split")}
        self.taxa: dict[str, int] = {}
        self.clips = array.array("q")
        self.rejects: list[dict[str, Any]] = []
        self.rejected = 0
        """Examples that are left out for the reasons in `rejects`; one of several clips may be in several of these."""
        self.left_out: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
        """Examples that training must not hear: per check the reasons, and what was dropped with its clip."""

    def add(self, example: Example, clips: list[int], text_tokens: int, answer_tokens: int) -> None:
        for key, names in self.names.items():
            self.columns[key].append(names.setdefault(getattr(example, key), len(names)))
        taxon = lineage(example.facts) or example.label
        self.columns["taxon"].append(self.taxa.setdefault(taxon, len(self.taxa)))
        self.columns["text_tokens"].append(text_tokens)
        self.columns["answer_tokens"].append(answer_tokens)
        self.clips.extend(clips)
        self.columns["clip_end"].append(len(self.clips))


def write_examples(
    options: Options, survey: Survey, clips: Clips, repeats: Repeats, tokenizer: Tokenizer, advance: Callable[[], None]
) -> Table:
    """Writes examples and index.

    Raises:
      UserError: no example is left.
    """
    table, lost, places = Table(), collections.Counter(), {}

    def usable() -> Iterator[bytes]:
        with _left_out(options, table) as (tell, gone):
            for example in selected(options, tell):
                advance()
                bad = [path for path in example.paths if path in clips.rejected]
                for path in bad:
                    lost[path] += 1
                    places.setdefault(path, example.where)
                if bad:
                    table.rejected += 1
                    continue
                numbers = [clips.number[survey.paths[path]] for path in example.paths]
                why = {repeats.gone[number] for number in numbers if number in repeats.gone}
                if why and options.training(example.split):
                    gone(min(why))
                    continue
                if not all(map(_is_text, (example.prompt, example.text, example.label, *example.facts.values()))):
                    table.rejects.append(_entry(example.where, example.where, NO_TEXT))
                    table.rejected += 1
                    continue
                query = normalize_query(example.prompt, len(example.paths))
                try:
                    made = build_sequence(tokenizer, query, example.text, len(example.paths), 0, max_txt_len=1 << 30)
                except UserError as error:
                    table.rejects.append(_entry(example.where, example.where, str(error)))
                    table.rejected += 1
                    continue
                table.add(example, numbers, made.answer_start, made.n_answers)
                stored = {key: getattr(example, key) for key in ("prompt", "text", "label")}
                stored = {"id": printable(example.id), **stored}
                if example.facts:
                    stored["facts"] = dict(example.facts)
                yield json.dumps(stored, ensure_ascii=False).encode()

    stream, shard = usable(), 0
    while shards.write_records(
        shards.shard_path(options.out, "examples", shard),
        (record for _, record in zip(range(shards.EXAMPLES_PER_SHARD), stream, strict=False)),
        shards.EXAMPLE_OPTIONS,
    ):
        shard += 1
    shards.shard_path(options.out, "examples", shard).unlink()  # the empty one behind the last
    rows = [_entry(reject.name, reject.where, reject.reason) for reject in options.report.rejects]
    damaged = [_entry(n, places.get(n, ""), why, lost[n], RECORDING) for n, why in clips.rejected.items()]
    table.rejects[:0] = [*rows, *damaged]
    table.rejected += len(rows)
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in table.rejects)
    (options.out / "rejects.jsonl").write_text(lines, encoding="utf-8")
    if not table.columns["task"]:
        _start_over(options, survey, table)
    numbers = {f"clip_{key}": values for key, values in clips.places.items()}
    for key, values in {**table.columns, **numbers, "clips": table.clips}.items():
        kind = np.int64 if key == "clip_end" else np.int32
        np.save(options.out / "index" / f"{key}.npy", np.asarray(values, kind))
    write_json(options.out / "index" / "taxa.json", list(table.taxa))
    return table


def _is_text(text: str) -> bool:
    """Whether it can be written as UTF-8; names of files need not."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _entry(name: str, where: str, reason: str, examples: int = 1, kind: str = "row") -> dict[str, Any]:
    """A line of rejects.jsonl: a `row` of the annotations that nothing is made of, or a `recording` and how many
    examples it takes with it."""
    return {
        "file": printable(name),
        "where": printable(where),
        "reason": printable(reason),
        "kind": kind,
        "examples": examples,
    }


@contextlib.contextmanager
def _left_out(options: Options, table: Table):
    """What is told of examples that training must not hear: listed by id, counted by reason."""
    files = {}
    if options.taxa:
        files["taxa"] = (options.out / "held_out_taxa.jsonl").open("w", encoding="utf-8", errors="backslashreplace")
    if options.against:
        files["leakage"] = (options.out / "leakage.jsonl").open(
            "a", encoding="utf-8", errors="backslashreplace"
        )  # behind the clips

    def tell(example: Example, why: str, name: str) -> None:
        leak = why in ("id", "file name")
        entry = {"id": example.id, "where": example.where, "split": example.split, "reason": why, "name": name}
        if leak:
            entry = {"kind": why, **entry, "dropped": options.leakage == "drop"}
            del entry["reason"]
        files["leakage" if leak else "taxa"].write(json.dumps(entry, ensure_ascii=False) + "\n")
        table.left_out["leakage" if leak else "held_out_taxa"][why] += 1

    def gone(why: str) -> None:
        table.left_out["dropped"][why] += 1

    try:
        yield tell, gone
    finally:
        for file in files.values():
            file.close()


def _start_over(options: Options, survey: Survey, table: Table) -> NoReturn:
    """Says that nothing is left, and leaves a directory in which the corrected command starts afresh."""
    for leftover in (options.out / "work", options.out / "plan.json"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    for file in options.out.glob("*.arrayrecord"):
        file.unlink()
    if not table.rejects:
        raise UserError(
            f"{options.annotations}: none of its {survey.examples} examples is left: all are duplicates or in the "
            f"benchmark; see duplicates.jsonl and leakage.jsonl in {options.out}"
        )
    where, reason = (table.rejects[0][key] for key in ("where", "reason"))
    raise UserError(
        f"{options.annotations}: none of its {survey.examples} examples can be used; the first is left out because of "
        f"{reason if reason.startswith(where) else f'{where}: {reason}'}. All reasons are in "
        f"{options.out / 'rejects.jsonl'}"
    )

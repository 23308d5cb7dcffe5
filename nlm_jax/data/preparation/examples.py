"""The second stage of `nlm prepare`: the examples whose clips are there, their index, and what was left out."""

import array
import collections
import json
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np

from nlm_jax.core.errors import UserError
from nlm_jax.data import shards
from nlm_jax.data.preparation.clips import write_json
from nlm_jax.data.schema import Example, lineage
from nlm_jax.data.text import build_sequence, normalize_query

EXAMPLES_PER_SHARD = 65_536


class Table:
    """The index under construction: one entry an example in every column, names of tasks etc. once."""

    def __init__(self):
        self.columns: dict[str, array.array] = collections.defaultdict(lambda: array.array("q"))
        self.names: dict[str, dict[str, int]] = {k: {} for k in ("task", "domain", "licence", "split")}
        self.taxa: dict[str, int] = {}
        self.clips = array.array("q")
        self.rejects: list[dict[str, Any]] = []

    def add(self, example: Example, clips: list[int], text_tokens: int, answer_tokens: int) -> None:
        for key, names in self.names.items():
            self.columns[key].append(names.setdefault(getattr(example, key), len(names)))
        taxon = lineage(example.facts) or example.label
        self.columns["taxon"].append(self.taxa.setdefault(taxon, len(self.taxa)))
        self.columns["text_tokens"].append(text_tokens)
        self.columns["answer_tokens"].append(answer_tokens)
        self.clips.extend(clips)
        self.columns["clip_end"].append(len(self.clips))


def write_examples(options, notes, tokenizer, progress, total) -> Table:
    number, rejected = {}, {}
    places = {key: array.array("q") for key in ("shard", "record", "samples")}
    for shard, note in enumerate(notes):
        record = 0
        for clip in note["clips"]:
            if "reason" in clip:
                rejected[clip["name"]] = clip["reason"]
                continue
            number[clip["name"]] = len(number)
            for key, value in (("shard", shard), ("record", record), ("samples", clip["samples"])):
                places[key].append(value)
            record += 1
    table, lost = Table(), collections.Counter()
    task = progress.add_task("examples", total=total)

    def usable() -> Iterator[bytes]:
        for example in options.examples():
            progress.advance(task)
            bad = [path for path in example.paths if path in rejected]
            lost.update(bad)
            if bad:
                continue
            query = normalize_query(example.prompt, len(example.paths))
            try:
                sequence = build_sequence(tokenizer, query, example.text, len(example.paths), 0, max_txt_len=1 << 30)
            except UserError as error:
                table.rejects.append({"file": example.where, "reason": str(error), "examples": 1})
                continue
            table.add(example, [number[p] for p in example.paths], sequence.answer_start, sequence.n_answers)
            stored = {key: getattr(example, key) for key in ("id", "prompt", "text", "label")}
            if example.facts:
                stored["facts"] = dict(example.facts)
            yield json.dumps(stored, ensure_ascii=False).encode()

    stream, shard = usable(), 0
    while shards.write_records(
        shards.shard_path(options.out, "examples", shard),
        (record for _, record in zip(range(EXAMPLES_PER_SHARD), stream, strict=False)),
        shards.EXAMPLE_OPTIONS,
    ):
        shard += 1
    shards.shard_path(options.out, "examples", shard).unlink()  # the empty one behind the last
    table.rejects[:0] = [{"file": f, "reason": r, "examples": lost[f]} for f, r in rejected.items()]
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in table.rejects)
    (options.out / "rejects.jsonl").write_text(lines, encoding="utf-8")
    if not table.columns["task"]:
        first = table.rejects[0]
        for leftover in (options.out / "work", options.out / "plan.json"):  # the corrected command starts afresh
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        for file in options.out.glob("*.arrayrecord"):
            file.unlink()
        raise UserError(
            f"{options.annotations}: none of its {total} examples can be used; the first is left out because of "
            f"{first['reason']}. All reasons are in {options.out / 'rejects.jsonl'}"
        )
    for key, values in {**table.columns, **{f"clip_{k}": v for k, v in places.items()}, "clips": table.clips}.items():
        kind = np.int64 if key == "clip_end" else np.int32
        np.save(options.out / "index" / f"{key}.npy", np.asarray(values, kind))
    write_json(options.out / "index" / "taxa.json", list(table.taxa))
    return table

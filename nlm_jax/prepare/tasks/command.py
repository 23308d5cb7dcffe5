"""`nlm data tasks`: the tasks that can be generated, an example of each, and the official prompt files."""

import argparse
import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping

import rich.console
import rich.table

from nlm_jax.core import remote
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example
from nlm_jax.prepare.readers import registry
from nlm_jax.prepare.tasks import sample, templates
from nlm_jax.prepare.tasks.generate import instruct
from nlm_jax.prepare.tasks.schema import Task

SUMMARY = "the tasks that nlm prepare --instruct can generate, with an example of each"
FILES = {"train": "train_prompt.json", "test": "test_prompt.json"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "annotations",
        nargs="?",
        type=remote.input_path,
        metavar="ANNOTATIONS",
        help="annotations to show examples from, as nlm prepare --instruct reads them (default: invented recordings)",
    )
    parser.add_argument("--tasks", default=templates.ALL, help="names with * and commas (default all)")
    parser.add_argument("--templates", type=remote.input_path, metavar="DIR", help="folder of task files of your own")
    parser.add_argument("--side", choices=tuple(FILES), default="train", help="phrasings of the examples shown")
    parser.add_argument("--seed", type=int, default=0, help="random seed of phrasings and candidates (default 0)")
    parser.add_argument("--limit", type=int, default=1, metavar="N", help="examples shown of each task (default 1)")
    parser.add_argument("--json", action="store_true", help="print examples as JSON lines, and nothing else")
    parser.add_argument(
        "--out",
        type=remote.output_path,
        metavar="DIR",
        help=f"write {' and '.join(FILES.values())}, in the format of the official code",
    )


def run(args: argparse.Namespace) -> int:
    tasks = templates.select(templates.load(args.templates), args.tasks)
    if args.limit < 0:
        raise UserError(f"--limit {args.limit}: must be at least 0")
    shown = examples(tasks, args.annotations, args.seed, args.side, args.limit)
    if args.json:
        for example in itertools.chain.from_iterable(shown.values()):
            line = {"task": example.task, "prompt": example.prompt, "text": example.text, "files": example.paths}
            print(json.dumps(line, ensure_ascii=False))
    else:
        show(tasks, shown)
    if args.out:
        for path in write_official(tasks, args.out):
            print(f"wrote {path}")
    return 0


def examples(
    tasks: Mapping[str, Task], annotations: pathlib.Path | None, seed: int, side: str, limit: int
) -> dict[str, list[Example]]:
    """Examples of each task.

    Args:
      tasks: name -> task.
      annotations: whose recordings the questions are about; None for the invented ones of `sample`.
      seed: of phrasings and candidates.
      side: "train" or "test" phrasings.
      limit: examples of each task at most.

    Returns:
      Task -> examples.
    """

    def read() -> Iterator[Example]:
        return registry.read(annotations) if annotations else iter(sample.recordings())

    by_task: dict[str, list[Example]] = {name: [] for name in tasks}
    for example in instruct(read, seed, tasks, split=side) if limit else ():
        if len(by_task[example.task]) < limit:
            by_task[example.task].append(example)
            if all(len(listed) == limit for listed in by_task.values()):
                break
    return by_task


def show(tasks: Mapping[str, Task], shown: Mapping[str, list[Example]]) -> None:
    """Prints a table of the tasks, then their examples."""
    console = rich.console.Console(highlight=False)
    table = rich.table.Table("task", "facts it needs", "train", "test", "about", box=None)
    for name, task in tasks.items():
        facts = [*task.facts(), *(["one of " + ", ".join(task.context)] if task.context else [])]
        facts += ["one of " + ", ".join(task.clips.of)] if task.clips else []
        table.add_row(name, "; ".join(facts), str(len(task.train)), str(len(task.test)), task.about)
    console.print(table)
    for name, listed in shown.items():
        for example in listed:
            console.print(f"\n[bold]{name}[/bold]  {', '.join(example.paths)}", markup=True)
            console.print(f"  {example.prompt}".replace("\n", "\n  "), markup=False)
            console.print(f"  -> {example.text}", markup=False)
    missing = [name for name, listed in shown.items() if not listed]
    if missing:
        console.print(f"\nno example of {', '.join(missing)}", markup=False)


def write_official(tasks: Mapping[str, Task], out: pathlib.Path) -> list[pathlib.Path]:
    """Writes `train_prompt.json` and `test_prompt.json`, `{task: [prompts]}`; returns their paths.

    Raises:
      UserError: the folder is a file, or holds another file of that name.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is a file; give a folder")
    contents = {}
    for side, name in FILES.items():
        text = json.dumps(templates.official(tasks, side), ensure_ascii=False, indent=1) + "\n"
        path = out / name
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise UserError(f"{path}: is there already with other prompts; give another folder, or move it away")
        contents[path] = text
    out.mkdir(parents=True, exist_ok=True)
    for path, text in contents.items():
        path.write_text(text, encoding="utf-8")
    return list(contents)

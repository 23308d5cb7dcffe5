"""The examples of annotations, by way of generator stages: read, split, window, leave out, add tasks.

`Annotations.examples` runs all stages. Nothing is cached, so every pass reads the annotations again.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Literal

from nlm_jax.data.schema import Example
from nlm_jax.prepare import audio_sources, heldout_taxa, leakage
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.readers import registry, subset
from nlm_jax.prepare.rejects import Report
from nlm_jax.prepare.splits import Division
from nlm_jax.prepare.tasks.pools import Pools
from nlm_jax.prepare.tasks.schema import Task
from nlm_jax.prepare.tasks.with_tasks import selected_tasks, with_tasks
from nlm_jax.prepare.windowing import Windows


@dataclasses.dataclass(frozen=True)
class Exclusion:
    """A training example that is about a held-out taxon, or carries the name of a benchmark recording."""

    example: Example
    check: Literal["held_out_taxa", "leakage"]
    reason: str
    """ "family", "genus", "species" or "common name" of a taxon; "id" or "file name" of a benchmark."""
    name: str
    """The name that matched."""
    dropped: bool
    """Whether the example is left out; it is kept if leakage is only reported."""


class Annotations:
    """The examples of one run of `nlm prepare`, and what was learnt about the annotations while they were read.

    Args:
      options: of the run.

    Raises:
      UserError: no such list of taxa, or a hub dataset that could not be downloaded.
    """

    def __init__(self, options: PrepareOptions):
        self.options = options
        self.held_out_taxa = heldout_taxa.load(options.held_out_taxa)
        self.source = subset.fetch(options.annotations, options.taxon, options.task)
        """The annotations; the downloaded folder if `options.annotations` is a hub id."""
        self.root = options.audio_root or registry.default_root(self.source)
        """Folder of relative audio paths."""
        self.report = Report()
        """Rejects and notices, filled while examples are read."""
        content = functools.cache(functools.partial(audio_sources.content, self.root))
        self.division = Division(options.hold_out, content)
        """The held-out part, see `survey.draw_held_out`."""
        seconds = functools.cache(functools.partial(audio_sources.seconds, self.root))
        self.windows = Windows(options.window, options.window_hop, seconds, self.report, content)

    @functools.cached_property
    def benchmark(self) -> leakage.Benchmark | None:
        """The recordings of the benchmark; None without `--benchmark`."""
        return leakage.load(self.options.benchmark) if self.options.benchmark else None

    @functools.cached_property
    def tasks(self) -> dict[str, Task]:
        """The tasks of `--instruct`."""
        return selected_tasks(self.options)

    @functools.cached_property
    def pools(self) -> Pools:
        """Values that generated questions use from other examples, collected in a pass of its own."""
        held_out = self.held_out_taxa.reason if self.held_out_taxa else None  # no wrong answers either
        return Pools.collect(self._permitted(lambda _: None), self.tasks.values(), held_out)

    def examples(self, on_exclusion: Callable[[Exclusion], object] = lambda _: None) -> Iterator[Example]:
        """Yields the examples of the prepared corpus, once the held-out part is drawn.

        Generated questions follow the example whose recording they are about. What is excluded from training is
        neither in their prompts nor in their answers.

        Args:
          on_exclusion: called with each training example that a check finds, before the next example is yielded.
        """
        examples = self._permitted(on_exclusion)
        if self.options.instruct:
            examples = with_tasks(examples, self.tasks, self.pools, self.options)
        return examples

    def candidates(self) -> Iterator[Example]:
        """Yields the examples of the chosen split as annotated; before the draw also those that may move to it."""
        options = self.options
        examples = self.read()
        if options.hold_out:
            examples = self.division.assign(examples)
        if options.window:
            examples = self.windows.cut(examples)
        if options.split is not None:
            movable = self.division.divisible if options.hold_out and not self.division.is_drawn else frozenset()
            examples = (example for example in examples if example.split in {options.split, *movable})
        return examples

    def read(self) -> Iterator[Example]:
        """Yields the examples of the chosen taxa and tasks, as they are in the annotations."""
        options = self.options
        return subset.read(self.source, options.format, None, self.root, options.taxon, options.task, self.report)

    def _permitted(self, on_exclusion: Callable[[Exclusion], object]) -> Iterator[Example]:
        """`candidates` without those that are excluded from training."""
        benchmark = self.benchmark  # loaded before the first example is read
        for example in self.candidates():
            exclusion = self._exclusion(example, benchmark) if self.options.is_training(example.split) else None
            if exclusion:
                on_exclusion(exclusion)
            if not (exclusion and exclusion.dropped):
                yield example

    def _exclusion(self, example: Example, benchmark: leakage.Benchmark | None) -> Exclusion | None:
        if self.held_out_taxa and (match := self.held_out_taxa.reason(example)):
            return Exclusion(example, "held_out_taxa", *match, dropped=True)
        if benchmark and (match := benchmark.named(example)):
            return Exclusion(example, "leakage", *match, dropped=self.options.leakage == "drop")
        return None

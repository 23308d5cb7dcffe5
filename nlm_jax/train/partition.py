"""Trained components: one switch each, turned into the filter that splits a model's parameters."""

import dataclasses
import re

from nlm_jax.core.errors import UserError
from nlm_jax.core.tree import name

COMPONENTS = {
    "beats": r"beats/(?!predictor/).*",
    "qformer": r"(ln_audio|qformer)/.*",
    "projection": r"audio_proj/.*",
    "lora": r"llama/.*/lora_[ab]",
    "base": r"llama/(?!.*/lora_[ab]$).*",
}
"""Component -> its parameters. BEATs' AudioSet head belongs to none: the reference gives it no gradient, so it must be
neither updated nor decayed."""


@dataclasses.dataclass(frozen=True)
class Components:
    """Components that train in a stage. The defaults are the reference's: everything but the language model itself."""

    beats: bool = True
    qformer: bool = True
    projection: bool = True
    lora: bool = True
    base: bool = False

    def named(self) -> tuple[str, ...]:
        return tuple(f.name for f in dataclasses.fields(self) if getattr(self, f.name))


def component(path: str) -> str | None:
    """The component a parameter belongs to, None for what never trains."""
    return next((c for c, pattern in COMPONENTS.items() if re.fullmatch(pattern, path)), None)


def trainable(components: Components):
    """NNX filter `(path, value) -> bool` of everything that trains."""
    chosen = components.named()
    return lambda path, value: component("/".join(map(str, path))) in chosen


def check(components: Components, paths) -> None:
    """Raises UserError when nothing trains, or a chosen component has no parameter in the model.

    Args:
      paths: paths of all parameters, as text or as keys of jax.tree_util.
    """
    present = {component(p if isinstance(p, str) else name(p)) for p in paths}
    if not components.named():
        raise UserError("train: every component is switched off; set at least one of " + ", ".join(COMPONENTS))
    for chosen in components.named():
        if chosen not in present:
            raise UserError(f"train.{chosen}: the model has no such parameters; set it to False or change the model")

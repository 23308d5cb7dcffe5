"""Command-line flags that name a model, and the model they name; shared by all commands that run one."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nlm_jax.generate.api import NatureLM


def add_model_arguments(parser: argparse._ActionsContainer, *, required: bool = True) -> None:
    """Adds `--model`, `--llm` and `--qformer-config`.

    Args:
      parser: a parser or one of its argument groups.
      required: False if the command can also run without a model.
    """
    parser.add_argument("--model", required=required, help="official directory, export, or training run; or a hub id")
    parser.add_argument("--llm", help="Hugging Face Llama directory or hub id, if the model does not include one")
    parser.add_argument("--qformer-config", help="Q-Former sizes (JSON), if they are not bert-base's")


def add_dtype_argument(parser: argparse._ActionsContainer, default: str = "bfloat16") -> None:
    """Adds `--dtype`."""
    parser.add_argument("--dtype", default=default, choices=("bfloat16", "float32"), help="of the computation")


def add_merging_alpha_argument(parser: argparse._ActionsContainer) -> None:
    """Adds `--merging-alpha`."""
    parser.add_argument("--merging-alpha", type=float, default=1.0, help="0 = base LLM ... 1 = trained (default 1)")


def load_model(args: argparse.Namespace, merging_alpha: float = 1.0) -> "NatureLM":
    """The model that the flags name.

    Args:
      args: with `model`, `llm`, `qformer_config` and `dtype`.
      merging_alpha: 0 = the base language model, 1 = the trained one.

    Raises:
      UserError: as `NatureLM.from_pretrained`.
    """
    from nlm_jax.generate.api import NatureLM  # loads jax, which `--help` does not need

    return NatureLM.from_pretrained(
        args.model,
        llm=args.llm,
        dtype=args.dtype,
        merging_alpha=merging_alpha,
        qformer_config=args.qformer_config,
    )

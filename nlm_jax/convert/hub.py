"""Names that may be paths or ids of the Hugging Face hub."""

import pathlib
import re

from nlm_jax.core.errors import UserError
from nlm_jax.core.remote import fetch, is_remote

_ID = re.compile(r"[\w.-]+/[\w.-]+")


def is_id(name: str) -> bool:
    """Whether `name` can be an id of the hub: it looks like one, and no file of that name is here."""
    return bool(_ID.fullmatch(name)) and not pathlib.Path(name).exists()


def lasting(name: str | pathlib.Path) -> str:
    """A name that stays true from another directory: hub ids and URLs as they are, paths absolute."""
    return str(name) if is_remote(name) or is_id(str(name)) else str(pathlib.Path(name).expanduser().absolute())


def local(name: str | pathlib.Path, *, weights: bool = True) -> pathlib.Path:
    """A path that exists, or a hub id fetched through huggingface_hub (its cache first).

    Args:
      weights: whether the safetensors files are wanted, not only configs and tokenizer.

    Raises:
      UserError: neither.
    """
    if is_remote(name):
        return fetch(str(name))
    path = pathlib.Path(name).expanduser()
    if path.exists():
        return path
    if not _ID.fullmatch(str(name)):
        raise UserError(f"{name}: no such file or directory")
    try:
        import huggingface_hub

        patterns = ["*.json", "tokenizer*"] + (["*.safetensors"] if weights else [])
        return pathlib.Path(huggingface_hub.snapshot_download(str(name), allow_patterns=patterns))
    except Exception as error:  # the library raises its own, the network's and the file system's
        reason = type(error).__name__
        raise UserError(f"{name}: no such file or directory, and not to be had as a hub id ({reason})") from error


def cached(name: str) -> pathlib.Path | None:
    """The directory of a hub id that was fetched before, found without the network; None where there is none."""
    if not _ID.fullmatch(name):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return pathlib.Path(found).parent if isinstance(found, str) else None

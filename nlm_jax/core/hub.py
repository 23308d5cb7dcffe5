"""Names that are paths, or ids of models and datasets on the Hugging Face Hub."""

import pathlib
import re
from collections.abc import Sequence

from nlm_jax.core import remote
from nlm_jax.core.errors import UserError

_MODEL_ID = re.compile(r"[\w.-]+/[\w.-]+")
TABLES = ("*.parquet", "*.arrow")
"""Files of a dataset that hold its rows."""


# --- models


def is_id(name: str) -> bool:
    """Whether `name` can be the id of a model: it looks like one, and no file of that name exists."""
    return bool(_MODEL_ID.fullmatch(name)) and not pathlib.Path(name).exists()


def absolute(name: str | pathlib.Path) -> str:
    """A name that is valid from another directory: hub ids and URLs as they are, paths absolute."""
    return str(name) if remote.is_remote(name) or is_id(str(name)) else str(pathlib.Path(name).expanduser().absolute())


def model_path(name: str | pathlib.Path, *, weights: bool = True) -> pathlib.Path:
    """Local path of a model: an existing path, a downloaded URL, or a hub id downloaded to the hub's cache.

    Args:
      name: path, URL or hub id.
      weights: whether the safetensors files are needed, not only configs and tokenizer.

    Raises:
      UserError: no such path, and not available from the hub.
    """
    if remote.is_remote(name):
        return remote.fetch(str(name))
    path = pathlib.Path(name).expanduser()
    if path.exists():
        return path
    if not _MODEL_ID.fullmatch(str(name)):
        raise UserError(f"{name}: no such file or directory")
    try:
        import huggingface_hub

        patterns = ["*.json", "tokenizer*"] + (["*.safetensors"] if weights else [])
        return pathlib.Path(huggingface_hub.snapshot_download(str(name), allow_patterns=patterns))
    except Exception as error:  # the library raises its own errors, the network's and the file system's
        reason = type(error).__name__
        raise UserError(
            f"{name}: no such file or directory, and could not be downloaded from the Hub ({reason})"
        ) from error


def cached_model(name: str) -> pathlib.Path | None:
    """Directory of a hub model that was downloaded before; None if there is none. Uses no network."""
    if not _MODEL_ID.fullmatch(name):
        return None
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json")
    return pathlib.Path(config).parent if isinstance(config, str) else None


# --- datasets


def is_dataset_id(source: str) -> bool:
    """Whether a path that does not exist may be the id of a dataset: `owner/name`."""
    return source.count("/") == 1 and not source.startswith((".", "/", "~")) and "\\" not in source


def dataset_path(source: str, flag: str = "") -> pathlib.Path:
    """Local file or folder of a path, a bucket's URL or the hub id of a dataset.

    Args:
      source: path, URL or hub id.
      flag: beginning of the messages, such as `--data=`.

    Raises:
      UserError: no such path, and not available from the hub.
    """
    path = remote.local(source)
    if path.exists():
        return path
    if not is_dataset_id(source):
        raise UserError(f"{flag}{source}: no such file or folder")
    return download_dataset(source, TABLES, flag)


def download_dataset(source: str, patterns: Sequence[str] | None, flag: str = "") -> pathlib.Path:
    """Folder with the files of a hub dataset whose names match one of `patterns` (None: every file).

    Raises:
      UserError: no such dataset, no access, or no network.
    """
    try:
        import huggingface_hub

        allowed = None if patterns is None else list(patterns)
        return pathlib.Path(huggingface_hub.snapshot_download(source, repo_type="dataset", allow_patterns=allowed))
    except Exception as error:  # the library raises its own errors, the network's and the file system's
        raise UserError(
            f"{flag}{source}: no such folder, and could not be downloaded from the Hub ({type(error).__name__})"
        ) from error


def dataset_files(source: str) -> list[str] | None:
    """File names of a hub dataset; None if the hub cannot be reached (its files may still be in the cache)."""
    try:
        import huggingface_hub

        return huggingface_hub.HfApi().list_repo_files(source, repo_type="dataset")
    except Exception:  # as above; the download that follows names the problem
        return None

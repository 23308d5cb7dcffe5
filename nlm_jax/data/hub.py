"""Datasets of the hub, by their id: the files that are needed, in the hub's own cache."""

import pathlib
from collections.abc import Sequence

from nlm_jax.core import remote
from nlm_jax.core.errors import UserError

TABLES = ("*.parquet", "*.arrow")


def is_id(source: str) -> bool:
    """Whether a path that does not exist may be the id of a dataset: `owner/name`."""
    return source.count("/") == 1 and not source.startswith((".", "/", "~")) and "\\" not in source


def located(source: str, flag: str = "") -> pathlib.Path:
    """The local folder or file of a path, a bucket's URL or a hub id; `flag` begins the messages.

    Raises:
      UserError: there is none.
    """
    path = remote.local(source)
    if path.exists():
        return path
    if not is_id(source):
        raise UserError(f"{flag}{source}: no such file or folder")
    return snapshot(source, TABLES, flag)


def snapshot(source: str, patterns: Sequence[str] | None, flag: str = "") -> pathlib.Path:
    """The folder that holds the files of a hub dataset whose names fit one of `patterns` (None: every file).

    Raises:
      UserError: no such dataset, no access, or no network.
    """
    try:
        import huggingface_hub

        wanted = None if patterns is None else list(patterns)
        return pathlib.Path(huggingface_hub.snapshot_download(source, repo_type="dataset", allow_patterns=wanted))
    except Exception as error:  # the library raises its own, the network's and the file system's
        raise UserError(
            f"{flag}{source}: no such folder, and not to be had as a hub dataset ({type(error).__name__})"
        ) from error


def listing(source: str) -> list[str] | None:
    """Names of the files of a hub dataset; None where the hub does not say (no network, but perhaps a cache)."""
    try:
        import huggingface_hub

        return huggingface_hub.HfApi().list_repo_files(source, repo_type="dataset")
    except Exception:  # as above; the download that follows says what is wrong
        return None

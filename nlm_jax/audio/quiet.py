"""Suppresses the messages that libmpg123 prints when it seeks in an MP3: they break progress bars and are harmless."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator

_lock = threading.Lock()
MESSAGES = (b"libmpg123", b"Illegal Audio-MPEG-Header", b"Trying to resync", b"during resync", b"Xing stream size")


@contextlib.contextmanager
def without_mpg123() -> Iterator[None]:
    """Captures the stderr of the process; on exit, all lines but those of libmpg123 are written to it. Keep it short.

    The library writes to the file descriptor, and libsndfile does not expose its verbosity.
    """
    with _lock, tempfile.TemporaryFile() as text:
        try:
            stderr = os.dup(2)
        except OSError:  # stderr is closed
            yield
            return
        os.dup2(text.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            text.seek(0)
            others = [line for line in text if not any(message in line for message in MESSAGES)]
            for line in others:
                os.write(stderr, line)
            os.close(stderr)

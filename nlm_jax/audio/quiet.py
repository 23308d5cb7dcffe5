"""What libmpg123 prints where an MP3 is entered is kept off the terminal: it spoils a progress bar and says nothing."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator

_lock = threading.Lock()
SIGNS = (b"libmpg123", b"Illegal Audio-MPEG-Header", b"Trying to resync", b"during resync", b"Xing stream size")


@contextlib.contextmanager
def without_mpg123() -> Iterator[None]:
    """Inside, for as short as possible, the process's stderr is collected; all but libmpg123's lines go there after.

    It prints past Python, and libsndfile gives no access to its switch.
    """
    with _lock, tempfile.TemporaryFile() as text:
        try:
            stderr = os.dup(2)
        except OSError:  # closed: nothing can be seen there
            yield
            return
        os.dup2(text.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            text.seek(0)
            others = [line for line in text if not any(sign in line for sign in SIGNS)]
            for line in others:
                os.write(stderr, line)
            os.close(stderr)

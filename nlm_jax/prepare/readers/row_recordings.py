"""Which recording, and which channel of it, a row of a label table is about.

Examples:
    program         columns                                   recording
    Kaleidoscope    INDIR=D:\\x, FOLDER=S1, IN FILE=a.wav     D:\\x/S1/a.wav, S1/a.wav, a.wav: the first that exists
    Raven           Begin Path=C:\\x, Begin File=a.wav        C:\\x/a.wav, a.wav
    Raven           neither                                   that of the table: dawn.wav for dawn.selections.txt
    others          file, filename, path, ...                 as written
"""

import functools
import pathlib

from nlm_jax.audio import wave
from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Row
from nlm_jax.prepare import audio_sources
from nlm_jax.prepare.readers import cells, columns, row_streams
from nlm_jax.prepare.readers.lookup import Lookup

RELATIVE_TO_TABLE = ("metadata.csv",)
"""Tables whose names of recordings are relative to their own folder, not to the audio root."""
RAVEN_FILE = ("begin_path", "begin_file")


class RowRecordings:
    """The recordings of the rows of one table."""

    def __init__(self, file: pathlib.Path, lookup: Lookup, names: tuple[str, ...], is_raven: bool):
        """Resolves names relative to one table.

        Args:
          file: the table.
          lookup: finds its recordings.
          names: its columns.
          is_raven: whether it is a selection table of Raven.
        """
        self._file = file
        self._lookup = lookup
        self._columns = {cells.column_key(name): name for name in reversed(names)}
        self._column = columns.layout(names).file
        self._is_raven = is_raven
        self._is_kaleidoscope = {"folder", "in_file"} <= self._columns.keys()

    @property
    def named(self) -> bool:
        """Whether the table has a column with recordings."""
        return bool(self._column)

    def of_table(self) -> str:
        """The recording with the name of the table.

        Raises:
          UserError: there is none, or there are several.
        """
        return self._lookup.of_table(self._file)

    def of_row(self, row: Row) -> str:
        """The name of the recording of a row, by its columns or by the name of the table.

        Raises:
          UserError: the row names none, or several recordings fit.
        """
        if not self.named:
            try:
                return self.of_table()
            except UserError as error:
                raise UserError(f"{error}, and no column such as file or filename that names recordings") from error
        near = self._is_raven or self._file.name in RELATIVE_TO_TABLE
        return self._lookup.find(self._names(row), self._file.parent, near=near)

    def of_reject(self, row: Row) -> str:
        """The recording of a row without examples: its name, or what the row calls it."""
        try:
            return self.of_row(row)
        except UserError:
            return row_streams.recording_column(row)

    def _names(self, row: Row) -> list[str]:
        """Names of a row's recording, the fullest first."""
        fields = {key: str(row.values[name]).strip() for key, name in self._columns.items() if row.values.get(name)}
        if self._is_kaleidoscope:
            folders = [fields.get("indir", ""), fields.get("folder", "")]
            name = fields.get("in_file") or row.text(self._columns["in_file"], empty=False)
            names = ["/".join(filter(None, (*folders[n:], name))) for n in range(3)]
        elif self._is_raven and ("begin_path" in fields or "begin_file" in fields):
            path, name = fields.get("begin_path", ""), fields.get("begin_file", "")
            if path and name and not path.lower().endswith(name.lower()):
                path = f"{path}/{name}"
            names = [path, name]
        elif self._is_raven and self._column in map(self._columns.get, RAVEN_FILE):
            return [self.of_table()]
        else:
            names = [row.text(self._column, empty=False).strip()]
        return list(dict.fromkeys(filter(None, names)))

    def channel(self, row: Row, recording: str) -> str:
        """The name of the channel that a selection is in; that of the recording if it has one channel.

        Args:
          row: the row; Raven counts channels from 1, Kaleidoscope from 0.
          recording: its name.

        Raises:
          UserError: the recording has fewer channels.
        """
        cell = row.text(self._columns.get("channel", ""), default="").strip()
        if not cell.isdigit() or not (self._is_raven or self._is_kaleidoscope):
            return recording
        count, number = _channels(self._lookup.root / recording), int(cell) + self._is_kaleidoscope
        if not count or (count == 1 and number == 1):
            return recording
        if not 1 <= number <= count:
            raise UserError(f"{row.where}: channel {cell} of a recording with {count}")
        return audio_sources.channel_name(recording, number) if count > 1 else recording


@functools.lru_cache(4096)
def _channels(file: pathlib.Path) -> int:
    """Channels of a recording, 0 if it cannot be read."""
    try:
        return wave.info(file).channels
    except UserError:
        return 0

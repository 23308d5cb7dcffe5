"""Tables as programs and people save them: encodings, delimiters, quotes, numbers, blank rows."""

import pytest

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Row
from nlm_jax.prepare.readers import spans, tables
from nlm_jax.prepare.rejects import Notice, Reject


def read(file, content, encoding="utf-8"):
    """The rows' values, rejects and notices of a table."""
    file.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    items = list(tables.rows(file))
    values = [item.values for item in items if isinstance(item, Row)]
    return values, [i for i in items if isinstance(i, Reject)], [i.text for i in items if isinstance(i, Notice)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_delimiters_and_line_ends(tmp_path, encoding, mark, end):
    content = end.join(["file{0}label", "a.wav{0}Grünspecht", "b.wav{0}Écureuil", ""]).format(mark)
    rows, rejects, notices = read(tmp_path / "t.csv", content, encoding)
    assert [row["label"] for row in rows] == ["Grünspecht", "Écureuil"]
    assert not rejects
    assert [("t.csv: not in UTF-8" in text, "Windows-1252" in text) for text in notices] == (
        [(True, True)] if encoding == "cp1252" else []
    )


def test_windows_letters_late_in_a_long_file(tmp_path):
    """The whole file decides, not its beginning, nor the block that a letter is cut by."""
    lines = ["file,label,notes", *(f"{n}.wav,Grünspecht,{'ü' * 999}" for n in range(700))]
    rows, _, notices = read(tmp_path / "t.csv", "\n".join(lines))
    assert ({row["label"] for row in rows}, notices) == ({"Grünspecht"}, [])
    rows, _, notices = read(
        tmp_path / "t.csv", ("\n".join(lines[:1] + [f"a.wav,Robin,{'x' * 999}"] * 20)).encode() + b"\nb.wav,\xc9"
    )
    assert (rows[-1]["label"], len(notices)) == ("É", 1)


@pytest.mark.parametrize("content", [b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00", bytes(range(256)) * 9])
def test_not_a_text(tmp_path, content):
    with pytest.raises(UserError, match=r"t\.csv: not a text file"):
        read(tmp_path / "t.csv", content)


@pytest.mark.parametrize(
    "content",
    [
        b"file,label\na.wav,Ro\0bin\n",  # a disk that was full, a card that was taken out
        b"file,label\na.wav,Robin\n" + bytes(5000),
        "file,label\na.wav,Robin\n".encode("utf-16-le"),
        f"file,label,notes\na.wav,Robin,{'麻雀' * 30}\n".encode("utf-16-be"),
        "sep=\t\nfile\tlabel\na.wav\tRobin\n",
        "file,label\nfile,label\na.wav,Robin\nFile,Label\n",  # of several tables put together
    ],
)
def test_what_else_is_in_tables(tmp_path, content):
    rows, rejects, notices = read(tmp_path / "t.csv", content)
    assert [(row["file"], row["label"]) for row in rows] == [("a.wav", "Robin")]
    assert not rejects + notices


@pytest.mark.parametrize("title", ["Survey 2024,,\nby me\n", "# made by R 4.3\n", "\n;\nProject: X\n\n"])
def test_titles_above_the_header(tmp_path, title):
    rows, _, notices = read(tmp_path / "t.csv", f"{title}file,label,start,end\na.wav,Robin,0,1\n")
    assert rows == [{"file": "a.wav", "label": "Robin", "start": "0", "end": "1"}]
    line = title.count("\n") + 1
    assert [f"the header is line {line};" in text for text in notices] == [True]
    assert list(tables.rows(tmp_path / "t.csv"))[-1].where.endswith(f"t.csv:{line + 1}")


def test_a_row_that_looks_like_a_header_is_none(tmp_path):
    rows, _, _ = read(tmp_path / "t.csv", "gbifID,rank,type\n1,species,audio\n2,label,file\n")
    assert [row["rank"] for row in rows] == ["species", "label"]


def test_lines_of_spreadsheets(tmp_path):
    content = "\n;;\nsep=;\n" + "file;label;;\na.wav;Robin;;\n;;;\n\n  ;\nb.wav;Wren;;\n"
    for lead in ("sep=;\n", "SEP=;\r\n", '"sep=;"\n', content[: content.index("file")]):
        rows, rejects, _ = read(tmp_path / "t.csv", lead + content[content.index("file") :])
        assert rows == [{"file": "a.wav", "label": "Robin"}, {"file": "b.wav", "label": "Wren"}]
        assert not rejects
    where = [item.where.rpartition(":")[2] for item in tables.rows(tmp_path / "t.csv")]
    assert where == ["5", "9"]  # lines of the file as an editor counts them


def test_quotes(tmp_path):
    comma = 'file,label\na.wav,"Robin, ""song"" A"\nb.wav,"two\nlines"\nc.wav,12" drum\n'
    rows, _, _ = read(tmp_path / "t.csv", comma)
    assert [row["label"] for row in rows] == ['Robin, "song" A', "two\nlines", '12" drum']
    tab = (
        'file\tlabel\tnote\na.wav\t"Robin, ""song"" A"\t\nb.wav\t"12"" drum"\tx\nc.wav\t"European" Tree Frog\t\n'
        'd.wav\t12" drum\t"\ne.wav\t"a" or "b"\t\nf.wav\t"a\ttab"\tn\ng.wav\tWren\t"two\nlines"\nh.wav\tOwl\t\n'
    )
    rows, rejects, _ = read(tmp_path / "t.txt", tab)
    assert [row["label"] for row in rows] == [
        'Robin, "song" A', '12" drum', '"European" Tree Frog', '12" drum', '"a" or "b"', "a\ttab", "Wren", "Owl",
    ]  # fmt: skip
    assert rows[6]["note"] == "two\nlines"
    assert not rejects
    where = [item.where.rpartition(":")[2] for item in tables.rows(tmp_path / "t.txt")]
    assert where == ["2", "3", "4", "5", "6", "7", "8", "10"]


@pytest.mark.parametrize("rest", ["b.wav,Wren\nc.wav,Owl\n", 'b.wav,"Wren"\nc.wav,Owl\n', 'b.wav,Wren\nc.wav,"Owl"\n'])
def test_a_quote_that_is_never_closed(tmp_path, rest):
    """It costs its own row, not those behind it."""
    rows, rejects, _ = read(tmp_path / "t.csv", 'file,label\na.wav,"Robin\n' + rest)
    assert [row["label"] for row in rows] == ["Wren", "Owl"]
    assert [(r.where.rpartition(":")[2], "nothing closes" in r.reason) for r in rejects] == [("2", True)]


def test_too_many_cells(tmp_path):
    rows, rejects, _ = read(tmp_path / "t.csv", "file,label\na.wav,Owl, barn\nb.wav,Wren,,,\nc.wav\n")
    assert rows == [{"file": "b.wav", "label": "Wren"}, {"file": "c.wav"}]
    assert [(r.where.rpartition(":")[2], "more cells than the header" in r.reason) for r in rejects] == [("2", True)]
    with pytest.raises(UserError, match=r"t\.csv: has no header line"):
        read(tmp_path / "t.csv", "\n\n")


def spans_in(file, content):
    file.write_text(content, encoding="utf-8")
    return [tuple(spans.span(row)) for row in tables.rows(file)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('file,start,end\na,"1,234","1,236"\nb,900,902\n', [(1234, 1236), (900, 902)]),
        ('file,start,end\na,"1,234.5","1,236.25"\n', [(1234.5, 1236.25)]),
        ('file,start,end\na,"12,345,678","12,345,679"\n', [(12345678, 12345679)]),
        ('file,start,end\na,"0,5","1,25"\nb,"1,234","2,5"\n', [(0.5, 1.25), (1.234, 2.5)]),  # commas are decimal
        ('file,start,end\na,"0,500","0,750"\n', [(0.5, 0.75)]),
        ("file;start;end\na;0,5;1,5\nb;1,234;2\n", [(0.5, 1.5), (1.234, 2)]),
        ("file;start;end\na;1,234;1,236\n", [(1.234, 1.236)]),  # where the comma is decimal, semicolons divide
        ("file;start;end\na;1,234.5;1,236.5\n", [(1234.5, 1236.5)]),
        ("file;start;end\na;1.234,5;1.236,5\n", [(1234.5, 1236.5)]),
        ("file\tstart\tend\na\t1,234\t1,236\nb\t900\t902\n", [(1234, 1236), (900, 902)]),
        ("file\tstart\tend\na\t1,234\t1,736\nb\t900,000\t902,500\n", [(1.234, 1.736), (900, 902.5)]),
        ("file,start,end\na,1.234,2.5\nb, 1e1 ,+11\n", [(1.234, 2.5), (10, 11)]),
    ],
)
def test_commas_in_numbers(tmp_path, content, expected):
    assert spans_in(tmp_path / "t.csv", content) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("00:00:02,00:00:04.5", (2, 4.5)),
        ("0:02,1:04.25", (2, 64.25)),
        ("01:00:00,01:00:01", (3600, 3601)),
        ("75:30,75:31", (4530, 4531)),
        ('00:00:02,"00:00:04,5"', (2, 4.5)),
    ],
)
def test_clock_times(tmp_path, content, expected):
    assert spans_in(tmp_path / "t.csv", f"file,start,end\na,{content}\n") == [expected]


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        ("start_time,end_time", "1,2", (1, 2)),
        ("start (s),end (s)", "1,2", (1, 2)),
        ("Start Time [s],End Time [s]", "1,2", (1, 2)),
        ("Begin Time (s),End Time (s)", "1,2", (1, 2)),
        ("begin,stop", "1,2", (1, 2)),
        ("startMs,endMs", "1000,2000", (1, 2)),
        ("startTimeSec,endTimeSec", "1,2", (1, 2)),
        ("StartSeconds,StopSeconds", "1,2", (1, 2)),
        ("t1,t2", "1,2", (1, 2)),
        ("t0,t1", "1,2", (1, 2)),
        ("segment_start,segment_end", "1,2", (1, 2)),
        ("call_start_s,call_end_s", "1,2", (1, 2)),
        ("segment_start,segment_end,start,end", "7,9,1,2", (1, 2)),
        ("début,fin", "1,2", (1, 2)),
        ("temps_debut,temps_fin", "1,2", (1, 2)),
        ("start,slut", "1,2", (1, 2)),
        ("start,end", "1 s,2s", (1, 2)),
        ("start,end", "1000 ms,2000ms", (1, 2)),
        ("onset,offset", "1,2", (1, 2)),
        ("onset_s,offset_s", "1,2", (1, 2)),
        ("onset,duration", "1,2", (1, 3)),
        ("offset,duration", "1,2", (1, 3)),
        ("OFFSET,DURATION", "1,2", (1, 3)),
        ("Begin Time (s),Delta Time (s)", "1,2", (1, 3)),
        ("tmin,tmax", "1,2", (1, 2)),
        ("t_min,t_max", "1,2", (1, 2)),
        ("start_ms,end_ms", "1500,2500", (1.5, 2.5)),
        ("onset (ms),duration (ms)", "1500,250", (1.5, 1.75)),
        ("start_min,end_min", "1,1.5", (60, 90)),
        ("start_seconds,end_seconds", "1,2", (1, 2)),
        ("start,end,duration", "1,2,7", (1, 2)),
        ("start,end,duration", "1,,7", (1, 8)),
        ("start,end,begin_sample", "1,2,7", (1, 2)),
        ("start_frame,start_sec,end_sec", "7,1,2", (1, 2)),
        ("duration,label", "60,x", (None, None)),  # of the recording
        ("begin_date,end_date", "2024-05-01,2024-05-02", (None, None)),
        ("low_freq,high_freq", "1,2", (None, None)),
        ("start,end", ",", (None, None)),
    ],
)
def test_columns_of_times(tmp_path, header, cells, expected):
    (tmp_path / "t.csv").write_text(f"file,{header}\na,{cells}\n")
    (row,) = tables.rows(tmp_path / "t.csv")
    assert tuple(spans.span(row)) == expected


@pytest.mark.parametrize(
    ("header", "cells", "message"),
    [
        ("start,end", "1,", "start and end belong together; end is empty"),
        ("startSample,endSample", "1,2", "'startsample' looks like a time, but counts no seconds"),
        ("StartFrame,Duration", "1,2", "'startframe' looks like a time, but counts no seconds"),
        ("start_s,end_s,start_sample,end_sample", ",,1,2", "start_s is empty, and 'start_sample' is not used"),
        ("start,end", ",2", "start is empty"),
        ("start,end", "x,2", "start must be seconds, is 'x'"),
        ("start,end", "NA,2", "start must be seconds, is 'NA'"),
        ("start,end", "2024-05-01 04:00:00,2", "does not say how far into the recording"),
        ("start,label", "1,x", "'start' looks like a time, but there is no start with an end"),
        ("offset,label", "1.5,x", "'offset' looks like a time"),
        ("t_begin_call,t_end_call", "1,2", "'t_begin_call' looks like a time"),
        ("time_s,label", "1,x", "'time_s' looks like a time"),
    ],
)
def test_times_that_are_not_understood(tmp_path, header, cells, message):
    (tmp_path / "t.csv").write_text(f"file,{header}\na,{cells}\n")
    (row,) = tables.rows(tmp_path / "t.csv")
    with pytest.raises(UserError, match=message):
        spans.span(row)

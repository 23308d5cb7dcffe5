"""Pictures of the report: a PNG that other software reads, charts that are well-formed."""

import struct
import xml.etree.ElementTree
import zlib

import numpy as np

from nlm_jax.page import picture


def test_png_holds_the_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    content = picture.png(pixels)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    at = content.index(b"IDAT")
    size = struct.unpack(">I", content[at - 4 : at])[0]
    lines = np.frombuffer(zlib.decompress(content[at + 4 : at + 4 + size]), np.uint8).reshape(5, 22)
    assert (lines[:, 0] == 0).all()
    np.testing.assert_array_equal(lines[:, 1:].reshape(5, 7, 3), pixels)
    assert struct.unpack(">I", content[at + 4 + size : at + 8 + size])[0] == zlib.crc32(content[at : at + 4 + size])


def test_magma_runs_from_black_to_pale_yellow():
    colours = picture.magma(np.array([[0.0, 0.5, 1.0, 2.0]]))
    assert colours[0, 0].tolist() == [0, 0, 4]
    assert colours[0, 2].tolist() == colours[0, 3].tolist() == [252, 253, 191]
    light = picture.magma(np.linspace(0, 1, 50)[None]).astype(int).sum(-1)[0]
    assert (np.diff(light) > 0).all()


def test_charts_are_well_formed_and_escape_names():
    charts = [
        picture.line_chart({"a < b": ([0, 10], [2.0, 0.5])}, "step", "loss"),
        picture.confusion_chart(["x & y", "z"], ["x & y", "z", "other"], [[3, 0, 1], [1, 2, 0]]),
        picture.bars([("task <1>", 0.5, 0.4, 0.6, {"majority answer": 0.2, "logistic regression": 0.7})]),
    ]
    for chart in charts:
        assert xml.etree.ElementTree.fromstring(chart).tag == "svg"


def test_nice_axis_ends():
    assert [picture.nice(v) for v in (0.7, 1.0, 2.3, 6.5, 37)] == [0.8, 1.0, 3.0, 8.0, 40.0]
    assert picture.nice(0) == 1.0

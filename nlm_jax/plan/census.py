"""Communication and estimated cycles of a compiled step, from its HLO text.

XLA's own `cost_analysis` counts the body of a loop once. Here every loop is multiplied by its trip count, which XLA for
CPUs annotates; for libtpu it is the constant in the loop's condition (a counter compared with a constant).
"""

import collections
import dataclasses
import functools
import math
import re

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4,
         "s64": 8, "u64": 8, "f64": 8, "f8e4m3fn": 1, "f8e5m2": 1}  # fmt: skip

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_COLLECTIVE = re.compile(rf" = (.*?) ({'|'.join(KINDS)})(-start)?\(")
_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|branch_computations|true_computation|false_computation)=\{?%?([\w.\-, %]+)\}?")
_WHILE = re.compile(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_BOUND = re.compile(r" = [su]32\[\]\S* constant\((\d+)\)")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_MESH_GROUPS = re.compile(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}")
_LISTED_GROUPS = re.compile(r"replica_groups=\{\{([\d,]+)\}")
_IOTA_GROUPS = re.compile(r"replica_groups=\[(\d+),(\d+)\]")


@dataclasses.dataclass(frozen=True)
class Census:
    """Collectives and compute of one step on one device."""

    count: dict[str, int]
    """Kind of collective -> number of runs."""
    sent: dict[str, float]
    """Kind -> bytes that a device sends, for rings: (n - 1) / n of the whole for a gather or scatter, twice that for an
    all-reduce."""
    cycles: int
    """Sum of the compiler's own estimates, including loop iterations; 0 if the compiler gives none."""

    @property
    def bytes(self) -> float:
        """Bytes that a device sends, over all kinds."""
        return sum(self.sent.values())


def census(text: str) -> Census:
    """The census of one run of an optimised HLO module, given as text."""
    bodies, entry = _computations(text)

    @functools.cache
    def total(name: str) -> tuple[dict[str, tuple[str, int, float]], int]:
        """Channel -> (kind, runs, bytes) and cycles of one run of a computation."""
        channels: dict[str, tuple[str, int, float]] = {}
        cycles = 0

        def add(callee: str, times: int) -> int:
            inner, callee_cycles = total(callee)
            for channel, (kind, runs, sent) in inner.items():
                # libtpu overlaps a collective with several fusions and repeats it in each: one channel is one transfer.
                transfer = (kind, runs * times, sent * times)
                channels[channel] = max(channels.get(channel, (kind, 0, 0.0)), transfer)
            return callee_cycles * times

        for number, line in enumerate(bodies.get(name, ())):
            if loop := _WHILE.search(line):
                cycles += add(loop[2], _trips(line, bodies.get(loop[1], ())))
                continue
            if collective := _COLLECTIVE.search(line):
                channel = _CHANNEL.search(line)
                sent = _sent(collective[2], collective[1], line)
                channels[channel[1] if channel else f"{name}:{number}"] = (collective[2], 1, sent)
            estimate, called = _CYCLES.search(line), _CALLED.search(line)
            inner = sum(add(other, 1) for other in re.split(r"[,\s%]+", called[1]) if other) if called else 0
            cycles += int(estimate[1]) if estimate else inner  # a fusion's estimate includes its callees
        return channels, cycles

    channels, cycles = total(entry)
    count, sent = collections.Counter(), collections.Counter()
    for kind, runs, size in channels.values():
        count[kind] += runs
        sent[kind] += size
    return Census(dict(count), dict(sent), cycles)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Computation -> its lines, and the name of the entry computation."""
    bodies: dict[str, list[str]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            current = bodies.setdefault(header[1], [])
            entry = header[1] if line.startswith("ENTRY") else entry
        elif line.startswith("}"):
            current = None
        elif current is not None:
            current.append(line)
    return bodies, entry


def _trips(loop: str, condition) -> int:
    if annotation := _TRIPS.search(loop):
        return int(annotation[1])
    bounds = [int(m[1]) for line in condition if (m := _BOUND.search(line))]
    return max(bounds, default=1)


def _sent(kind: str, shape: str, line: str) -> float:
    """Bytes one device sends in one run of a collective whose result has `shape`."""
    sizes = [math.prod(map(int, filter(None, dims.split(",")))) * BYTES.get(t, 4) for t, dims in _SHAPE.findall(shape)]
    if not sizes:
        return 0.0
    n = _group(line)
    if kind == "collective-permute":
        return float(max(sizes))
    # An asynchronous collective lists operand and result; the larger is the full array of a gather or a scatter.
    whole = max(sizes) if "-start(" in line else sum(sizes) * (n if kind == "reduce-scatter" else 1)
    share = (n - 1) / n
    return whole * share * (2 if kind == "all-reduce" else 1)


def _group(line: str) -> int:
    """Number of devices in one group of a collective."""
    if listed := _LISTED_GROUPS.search(line):
        return len(listed[1].split(","))
    if mesh := _MESH_GROUPS.search(line):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']+)'", mesh[2])) or 1
    if iota := _IOTA_GROUPS.search(line):
        return int(iota[2])
    return 2

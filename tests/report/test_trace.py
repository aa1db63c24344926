"""Perfetto traces, read back with Perfetto's own protobuf classes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace as PerfettoTrace
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TrackEvent

from pimloom.errors import UsageError
from pimloom.report import write_trace
from pimloom.result import Result, Trace

Slice = tuple[str, str, str, str, int, int]


def small(result: Result) -> Result:
    trace = Trace(
        np.array([0, 0, 0, 3, 3, 0], np.int32), np.array([0, 0, 1, 1, 0, 1], np.uint8), np.array([0, 1, 0, -1, 0, 0], np.int32),
        np.array([0, 10, 4, 8, 30, -1]), np.array([20, 30, 4, 12, 40, -1]), ("mvm", "load"), ("conv</a>", "fc"),
    )  # fmt: skip
    return replace(result, trace=trace, clock_ghz=2.0)


def read(path: Path) -> PerfettoTrace:
    return PerfettoTrace.FromString(path.read_bytes())


def slices(found: PerfettoTrace) -> list[Slice]:
    """(core, opcode track, name, category, start, end) of each slice; begins and ends must alternate on each track."""
    names = {entry.iid: entry.name for p in found.packet for entry in p.interned_data.event_names}
    categories = {entry.iid: entry.name for p in found.packet for entry in p.interned_data.event_categories}
    tracks = {p.track_descriptor.uuid: p.track_descriptor for p in found.packet if p.HasField("track_descriptor")}
    begun: dict[int, tuple[str, str, int]] = {}
    made: list[Slice] = []
    for packet in found.packet:
        event = packet.track_event
        if not packet.HasField("track_event") or event.type == TrackEvent.TYPE_COUNTER:
            continue
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            assert event.track_uuid not in begun
            begun[event.track_uuid] = (names[event.name_iid], categories[event.category_iids[0]], packet.timestamp)
        else:
            lane = tracks[event.track_uuid]
            name, category, start = begun.pop(event.track_uuid)
            assert start <= packet.timestamp
            made.append((tracks[lane.parent_uuid].name, lane.name, name, category, start, packet.timestamp))
    assert not begun
    return made


def test_slices_stand_on_the_track_of_their_core_and_opcode_in_ns(result: Result, tmp_path: Path) -> None:
    found = slices(read(write_trace(small(result), tmp_path / "t.pftrace")))
    assert sorted(found) == [
        ("core 0", "load", "conv</a>", "load", 2, 2),
        ("core 0", "mvm", "conv</a>", "mvm", 0, 10),
        ("core 0", "mvm", "fc", "mvm", 5, 15),
        ("core 3", "load", "load", "load", 4, 6),
        ("core 3", "mvm", "conv</a>", "mvm", 15, 20),
    ]


def test_counters_follow_the_rows_under_way(result: Result, tmp_path: Path) -> None:
    found = read(write_trace(small(result), tmp_path / "t.pftrace"))
    names = {p.track_descriptor.uuid: p.track_descriptor.name for p in found.packet if p.track_descriptor.HasField("counter")}
    assert set(names.values()) == {"array groups at work", "rows under way"}
    values: dict[str, list[tuple[int, int]]] = {name: [] for name in names.values()}
    for p in found.packet:
        if p.track_event.type == TrackEvent.TYPE_COUNTER:
            values[names[p.track_event.track_uuid]].append((p.timestamp, p.track_event.counter_value))
    assert values["array groups at work"] == [(0, 1), (5, 2), (10, 1), (20, 0)]
    assert values["rows under way"] == [(0, 1), (4, 2), (5, 3), (6, 2), (10, 1), (20, 0)]


def test_a_realistic_trace_keeps_every_row(result: Result, tmp_path: Path) -> None:
    found = slices(read(write_trace(result, tmp_path / "t.pftrace")))
    trace = result.trace
    assert trace is not None
    assert len(found) == trace.node.size
    expected = sorted(
        (f"core {c}", trace.opcode_names[o], trace.node_names[n], round(float(s) / 1.2), round(float(e) / 1.2))
        for c, o, n, s, e in zip(trace.processor, trace.opcode, trace.node, trace.start_cycles, trace.end_cycles, strict=True)
    )
    assert sorted((core, opcode, name, start, end) for core, opcode, name, _, start, end in found) == expected


def test_an_empty_trace_is_a_valid_file(make_result: Callable[..., Result], tmp_path: Path) -> None:
    none = np.zeros(0, np.int64)
    empty = make_result(trace=Trace(none, none, none, none, none, ("mvm",), ()))
    assert slices(read(write_trace(empty, tmp_path / "t.pftrace"))) == []


def test_a_result_without_a_trace_is_refused(make_result: Callable[..., Result], tmp_path: Path) -> None:
    message = r"^trace of 'resnet18': the result keeps no times of single rows \(500000 rows\); simulate a smaller network"
    with pytest.raises(UsageError, match=message):
        write_trace(make_result(trace=None, rows=500_000), tmp_path / "t.pftrace")
    assert not list(tmp_path.iterdir())


def test_large_traces_are_written_fast(make_result: Callable[..., Result], tmp_path: Path) -> None:
    result = make_result(rows=100_000)
    begun = time.process_time()
    write_trace(result, tmp_path / "t.pftrace")
    assert time.process_time() - begun < 5.0  # 0.7 s on an idle core

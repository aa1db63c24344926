"""Perfetto traces: open the file at ui.perfetto.dev, which reads it within the browser.

A core is a track, the opcodes that ran on it are tracks below it, and rows that overlap in time lie in lanes of their
opcode. A slice is named by its graph node, its category is the opcode. Counters show how many rows compute at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket, TrackEvent
from perfetto.trace_builder.proto_builder import TraceProtoBuilder

from pimloom.errors import UsageError
from pimloom.report.files import write_whole
from pimloom.report.timeline import pack
from pimloom.result import Result, Trace

Array = np.ndarray[Any, np.dtype[Any]]

_SEQUENCE = 1
_ROOT = 1
_COUNTERS = (("array groups at work", "mvm"), ("rows under way", None))
_CORE_TRACKS = 1_000
_LANE_TRACKS = 1_000_000_000


def write_trace(result: Result, path: str | Path) -> Path:
    """Writes the trace of the first sample as a Perfetto protobuf, times in nanoseconds.

    Args:
        result: with a trace.
        path: of the file, by custom `.pftrace`.

    Raises:
        UsageError: the result has no trace, or the file cannot be written.
    """
    trace = result.trace
    if trace is None:
        raise UsageError(
            f"trace of '{result.model}': the result keeps no times of single rows ({result.rows} rows);"
            " simulate a smaller network, or with tracing on"
        )
    builder = TraceProtoBuilder()
    _add_names(builder, result, trace)
    ran = np.flatnonzero((trace.start_cycles >= 0) & (trace.end_cycles >= trace.start_cycles))
    lanes = _add_tracks(builder, trace, ran)
    _add_slices(builder, trace, ran, lanes, result.clock_ghz)
    for number, (_, opcode) in enumerate(_COUNTERS):
        _add_counter(builder, _ROOT + 1 + number, trace, _of_opcode(trace, ran, opcode), result.clock_ghz)
    return write_whole(path, builder.serialize())


def _packet(builder: TraceProtoBuilder) -> TracePacket:
    packet = builder.add_packet()
    packet.trusted_packet_sequence_id = _SEQUENCE
    return packet


def _add_names(builder: TraceProtoBuilder, result: Result, trace: Trace) -> None:
    """The first packet of the sequence: names that slices refer to by number, and the top tracks."""
    packet = _packet(builder)
    packet.sequence_flags = TracePacket.SEQ_INCREMENTAL_STATE_CLEARED | TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
    for number, name in enumerate((*trace.node_names, *trace.opcode_names)):
        packet.interned_data.event_names.add(iid=number + 1, name=name)
    for number, name in enumerate(trace.opcode_names):
        packet.interned_data.event_categories.add(iid=number + 1, name=name)
    packet.track_descriptor.uuid = _ROOT
    packet.track_descriptor.name = f"{result.model} on {result.hardware}"
    for number, (name, _) in enumerate(_COUNTERS):
        descriptor = _packet(builder).track_descriptor
        descriptor.uuid, descriptor.parent_uuid, descriptor.name = _ROOT + 1 + number, _ROOT, name
        descriptor.counter.unit_name = "rows"


def _add_tracks(builder: TraceProtoBuilder, trace: Trace, ran: Array) -> Array:
    """Describes a track per core and per lane of its opcodes; int64[len(ran)]: the lane of each row."""
    opcodes = int(trace.opcode.max(initial=0)) + 1
    key = trace.processor[ran].astype(np.int64) * opcodes + trace.opcode[ran]
    order = np.lexsort((trace.end_cycles[ran], trace.start_cycles[ran], key))
    lanes, next_lane, described = np.zeros(ran.size, np.int64), _LANE_TRACKS, -1
    for members in np.split(order, np.flatnonzero(np.diff(key[order])) + 1) if ran.size else ():
        core, opcode = divmod(int(key[members[0]]), opcodes)
        if core != described:
            _describe(builder, _CORE_TRACKS + core, _ROOT, f"core {core}", core)
            described = core
        places = pack(trace.start_cycles[ran[members]], trace.end_cycles[ran[members]])
        lanes[members] = next_lane + places
        for _ in range(int(places.max()) + 1):
            # Tracks of one name below one parent are shown as one track with lanes.
            _describe(builder, next_lane, _CORE_TRACKS + core, trace.opcode_names[opcode], opcode)
            next_lane += 1
    return lanes


def _describe(builder: TraceProtoBuilder, uuid: int, parent: int, name: str, rank: int) -> None:
    descriptor = _packet(builder).track_descriptor
    descriptor.uuid, descriptor.parent_uuid, descriptor.name = uuid, parent, name
    descriptor.child_ordering = descriptor.EXPLICIT
    descriptor.sibling_order_rank = rank


def _add_slices(builder: TraceProtoBuilder, trace: Trace, ran: Array, lanes: Array, clock_ghz: float) -> None:
    # Rows of a lane do not overlap; written lane by lane and row by row, an end stands before a begin at the same time.
    order = np.lexsort((trace.end_cycles[ran], trace.start_cycles[ran], lanes))
    rows = ran[order]
    opcode, node = trace.opcode[rows].astype(np.int64), trace.node[rows].astype(np.int64)
    names = np.where(node >= 0, node + 1, len(trace.node_names) + opcode + 1)
    columns = (lanes[order], names, opcode + 1, _ns(trace.start_cycles[rows], clock_ghz), _ns(trace.end_cycles[rows], clock_ghz))
    flags, sequence = TracePacket.SEQ_NEEDS_INCREMENTAL_STATE, _SEQUENCE
    begin, end = TrackEvent.TYPE_SLICE_BEGIN, TrackEvent.TYPE_SLICE_END
    add = builder.add_packet
    for lane, name, category, start_ns, end_ns in zip(*(column.tolist() for column in columns), strict=True):
        packet = add()
        packet.timestamp, packet.trusted_packet_sequence_id, packet.sequence_flags = start_ns, sequence, flags
        event = packet.track_event
        event.type, event.track_uuid, event.name_iid = begin, lane, name
        event.category_iids.append(category)
        packet = add()
        packet.timestamp, packet.trusted_packet_sequence_id = end_ns, sequence
        event = packet.track_event
        event.type, event.track_uuid = end, lane


def _ns(cycles: Array, clock_ghz: float) -> Array:
    return np.rint(cycles / clock_ghz).astype(np.int64)


def _of_opcode(trace: Trace, ran: Array, opcode: str | None) -> Array:
    if opcode is None:
        return ran
    codes = [code for code, name in enumerate(trace.opcode_names) if name == opcode]
    return ran[np.isin(trace.opcode[ran], codes)]


def _add_counter(builder: TraceProtoBuilder, uuid: int, trace: Trace, rows: Array, clock_ghz: float) -> None:
    """The number of rows under way, at each time where it changes."""
    times = np.concatenate([trace.start_cycles[rows], trace.end_cycles[rows]])
    steps = np.concatenate([np.ones(rows.size, np.int64), -np.ones(rows.size, np.int64)])
    moments, place = np.unique(_ns(times, clock_ghz), return_inverse=True)
    counts = np.cumsum(np.bincount(place, steps, moments.size).astype(np.int64)) if rows.size else steps
    changed = np.flatnonzero(np.append(True, np.diff(counts) != 0)) if rows.size else moments
    for time_ns, count in zip(moments[changed].tolist(), counts[changed].tolist(), strict=True):
        packet = _packet(builder)
        packet.timestamp = time_ns
        packet.track_event.type = TrackEvent.TYPE_COUNTER
        packet.track_event.track_uuid, packet.track_event.counter_value = uuid, count

"""Results of programs that carry several samples through every segment: figures of the whole run become figures per sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pimloom.result.result import Bound, NodeResult, Result


def shared_out(result: Result, samples: int) -> Result:
    """The result of a run of several samples that were one network side by side.

    Energy, busy time and waiting are shared out; the period is the time of the run over the samples, and the latency that of the
    run, as the samples end together. Layers of all samples are one layer.

    Args:
        result: of the run, as of one sample.
        samples: that it carried.
    """
    if samples == 1:
        return result

    def each(values: Mapping[str, float]) -> dict[str, float]:
        return {name: value / samples for name, value in values.items()}

    def plain(name: str) -> str:
        base, at, sample = name.rpartition("@")
        return base if at and sample.isdigit() and 0 < int(sample) < samples else name

    trace = result.trace
    return replace(
        result, samples=samples, instructions=result.instructions // samples, period_cycles=result.period_cycles / samples,
        energy_pj=each(result.energy_pj), busy_cycles=each(result.busy_cycles), waits_cycles=each(result.waits_cycles),
        bounds=tuple(_per_sample(bound, samples) for bound in result.bounds),
        nodes=_merged([replace(node, name=plain(node.name)) for node in result.nodes], samples),
        core_busy={name: busy / samples for name, busy in result.core_busy.items()},
        core_nodes=tuple(tuple(dict.fromkeys(map(plain, names))) for names in result.core_nodes),
        trace=None if trace is None else replace(trace, node_names=tuple(map(plain, trace.node_names))),
    )  # fmt: skip


def _per_sample(bound: Bound, samples: int) -> Bound:
    return replace(bound, cycles=bound.cycles / samples) if bound.mode == "throughput" else bound


def _merged(nodes: list[NodeResult], samples: int) -> tuple[NodeResult, ...]:
    """Nodes of the same name as one; what they took is shared out, and their time is from the first start to the last end."""
    groups: dict[str, list[NodeResult]] = {}
    for node in nodes:
        groups.setdefault(node.name, []).append(node)
    return tuple(
        replace(
            group[0], start_cycles=min(n.start_cycles for n in group), end_cycles=max(n.end_cycles for n in group),
            energy_pj=sum(n.energy_pj for n in group) / samples, macs=sum(n.macs for n in group) // samples,
            arrays=max(n.arrays for n in group), cores=max(n.cores for n in group),
            busy_cycles=_summed([n.busy_cycles for n in group], samples), waits_cycles=_summed([n.waits_cycles for n in group], samples),
            moved_bytes=_summed([n.moved_bytes for n in group], samples),
        )
        for group in groups.values()
    )  # fmt: skip


def _summed(parts: list[Mapping[str, float]], samples: int) -> dict[str, float]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) / samples for name in names}


__all__ = ["shared_out"]

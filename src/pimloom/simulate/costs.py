"""From a Program and its Hardware to a Timing: the only place where engines meet opcodes, and only through the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from pimloom.program import INSTRUCTIONS, Costs, Forms, Program, Resources, costs_of
from pimloom.program.rows import Array
from pimloom.simulate.timing import Timing


@final
@dataclass(frozen=True, slots=True)
class CostedProgram:
    """A program with its costs.

    Attributes:
        timing: for the engines, in ticks.
        costs: per form.
        forms: which rows are alike.
        node: int32[f], graph node of each form, -1 for none.
        resources: of the machine.
        ticks_per_cycle: units of the timing per clock cycle.
    """

    timing: Timing
    costs: Costs
    forms: Forms
    node: Array
    resources: Resources
    ticks_per_cycle: int


def cost(program: Program) -> CostedProgram:
    """Works out what every row takes and holds."""
    context = costs_of(program)
    costs, rules, resources = context.costs, context.rules, context.resources
    forms, opcode = context.forms, context.rows["opcode"]
    kind = np.array([row.kind for row in INSTRUCTIONS], np.int8)[opcode]
    transfer = np.array([row.is_transfer for row in INSTRUCTIONS], np.int8)[opcode]
    route_ptr, route_link = resources.routes()
    devices = resources.devices()
    stage, lead = (v[forms.of_row] if v.any() else np.zeros(program.n_rows, np.int32) for v in (context.rows["stage"], costs.lead))
    timing = Timing(
        stream_ptr=program.stream_ptr, samples=program.samples, stage=stage, form=forms.of_row,
        partner=program.partner, kind=kind, detached=transfer if rules.detaches_transfers else np.zeros_like(transfer),
        reps=costs.reps, lead=lead, posts=costs.posts,
        n_phases=costs.n_phases, phase_res=costs.res, phase_hold=costs.hold, phase_pass=costs.passing,
        dep_ptr=program.dep_ptr, dep_row=program.dep_row, dep_distance=program.dep_distance,
        shared=resources.shared, route_ptr=route_ptr, route_link=route_link,
        gap_device=devices.device, gap_ptr=devices.ptr, gap_before=devices.before, gap_after=devices.after, gap_cycles=devices.cycles,
        window=rules.window, queue=rules.queue, issue_cycles=rules.cycles, in_order=rules.in_order, is_serial=rules.is_serial,
        handshake_cycles=rules.handshake_cycles, hop_cycles=rules.hop_cycles, is_wormhole=rules.is_wormhole,
    )  # fmt: skip
    return CostedProgram(timing, costs, forms, context.rows["node"], resources, rules.ticks_per_cycle)

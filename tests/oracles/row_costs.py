"""Costs worked out for every row on its own."""

from __future__ import annotations

import numpy as np

from pimloom.program import MACHINES, Program, costs_of
from pimloom.program.costing import work_out


def assert_forms_cost_the_same(program: Program) -> None:
    """What rows cost by their forms is what they cost alone."""
    shared, alone = costs_of(program), work_out(program, MACHINES[program.hardware.kind], with_forms=False)
    of_row = shared.forms.of_row
    for name in ("reps", "n_phases", "hold", "passing", "lead", "posts"):
        assert np.array_equal(getattr(shared.costs, name)[of_row], getattr(alone.costs, name)), name
    # Routes are numbered as they come up.
    links, others = (np.split(context.resources.routes()[1], context.resources.routes()[0][1:-1]) for context in (shared, alone))
    for mine, theirs in zip(shared.costs.res[of_row].ravel().tolist(), alone.costs.res.ravel().tolist(), strict=True):
        assert mine == theirs if mine >= 0 or theirs >= 0 else np.array_equal(links[-1 - mine], others[-1 - theirs])
    for part in ("energy_pj", "moved_bytes"):
        mine, theirs = getattr(shared.costs, part), getattr(alone.costs, part)
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert np.array_equal(mine[name][of_row], theirs[name]), (part, name)

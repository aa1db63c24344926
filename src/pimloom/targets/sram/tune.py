"""Tuning: the settings of a product, by the simulator.

Every strategy is tuned alike: the most promising settings by prediction (`predict`) are simulated, then settings around the best.
A family of several strategies begins where each of them ended, and `auto` adds what only it may do: none is slower than a part of it.

More bandwidth should never be slower, but a search ends in some local optimum, and where the link no longer matters another one
may be found for more bandwidth. So settings are tuned at the rungs of a ladder, and a bandwidth takes the best of what was found at
the rungs up to it, and at those between it and the next power of two. Strategies have powers of two for rungs; `auto` has others
between them, where it goes on from what the powers of two on both sides found. What remains is that fixed settings may be slower
with more bandwidth, where requests overtake each other: one or two cycles, rarely.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, final

import numpy as np

from pimloom.errors import CapacityError
from pimloom.hardware import SramHardware
from pimloom.targets.sram.plan import Dataflow, Plan, fits, most_macros, useful_vectors, whole_macros
from pimloom.targets.sram.predict import Promising, candidates, may_turn_back, priced, promising
from pimloom.targets.sram.strategies import STRATEGIES, parts
from pimloom.targets.sram.work import Work

Timer = Callable[[SramHardware, Plan], float]
"""Simulated cycles of a plan on a machine, which is the one that is compiled for but for its bandwidth."""

MANY_PASSES: Final = 6000
"""Passes of a tile from which on a job is long: simulating it takes its time, so nothing around the best predictions is tried."""

FAR_BEHIND: Final = 1.3
"""Times the fastest prediction: what is farther behind is not simulated for a long job."""

FARTHER: Final = 4
"""Times the steps of a strategy that `auto` has behind them."""

RUNNERS_UP: Final = 5
"""Plans of each strategy that a rung hands to other bandwidths, its best among them; `FARTHER` times as many of `auto`."""

RUNGS_PER_OCTAVE: Final = 4
"""Rungs of `auto` from a power of two to the next, for a product by itself."""

LEAST_GAIN: Final = 1.5
"""Times the cycles of the best plan: the bound of a rung below from which on nothing found there is considered."""


def choose(
    hardware: SramHardware, work: Work, wanted: str = "auto", timer: Timer | None = None, steps: int = 8,
    rungs: int = RUNGS_PER_OCTAVE, **fixed: Sequence[int] | None,
) -> Plan:  # fmt: skip
    """The plan of a product.

    Args:
        hardware: the machine.
        work: the product.
        wanted: a strategy or family of `FAMILIES`.
        timer: simulates plans; the prediction decides without it.
        steps: settings around the best prediction that are simulated for each strategy, and `FARTHER` times as many for `auto`; with 0 only
            the best predictions are, those of long jobs not even that.
        rungs: of `auto`, from a power of two to the next, of the ladder of bandwidths whose findings are considered, too, which takes
            several times as long; with 0 only what is found at the bandwidth itself is.
        fixed: `macros`, `vectors`, `speeds` to hold fixed; nothing is tuned then beyond the best predictions.

    Raises:
        CapacityError: nothing fits.
        UsageError: no such strategy, or a number of macros that it cannot do with.
    """
    found = candidates(hardware, work, wanted, **fixed)
    if timer is None:
        return found[0]
    tuner = _Tuner(hardware, work, timer, steps, rungs)
    if not steps and (tuner.is_long or len(found) == 1):
        return found[0]
    if any(fixed.values()):
        return tuner.best_of(found)
    if not steps:
        return tuner.best_of(tuner.first_plans(hardware.link.bytes_per_cycle, wanted))
    return tuner.over_the_ladder(wanted) if rungs else tuner.best_of([tuner.tuned(hardware.link.bytes_per_cycle, wanted)])


@final
class _Tuner:
    """Plans of one product, each simulated once for each bandwidth."""

    def __init__(self, hardware: SramHardware, work: Work, timer: Timer, steps: int, rungs: int) -> None:
        self._hardware, self._work, self._timer, self._steps, self._rungs = hardware, work, timer, steps, rungs
        self._machines: dict[int, SramHardware] = {hardware.link.bytes_per_cycle: hardware}
        self._timed: dict[tuple[int, Plan], float] = {}
        self._found: dict[tuple[int, str], Plan] = {}
        self._runners_up: dict[tuple[int, str], list[Plan]] = {}
        self.is_long = work.tiles(hardware) * work.chunks(max(useful_vectors(hardware, work))) > MANY_PASSES

    def over_the_ladder(self, wanted: str) -> Plan:
        """The fastest plan of a family among those found at the rungs up to the power of two that is not below the bandwidth.

        What the parts of the family find so is among them: which rungs are left out differs, as that depends on what was found.
        """
        rate = self._hardware.link.bytes_per_cycle
        top = 1 << (rate - 1).bit_length()
        of_parts = [self.over_the_ladder(part) for part in parts(wanted) if self._may(rate, part)]
        best = self.best_of([*of_parts, *self._of_rung(top, wanted)])
        for rung in _rungs_below(top, self._rungs if wanted == "auto" else 1):
            if rung < rate // 2 and self._promising(rung, wanted).least_bound >= LEAST_GAIN * best.cycles:
                break
            best = self.best_of([best, *self._of_rung(rung, wanted)])
        return best

    def _of_rung(self, rung: int, wanted: str) -> list[Plan]:
        """The best that was found at a rung, and what came next."""
        families = self._families(rung, wanted)
        best = [self.tuned(rung, family) for family in families]
        return [*best, *(plan for family in families for plan in self._runners_up[rung, family])]

    def _families(self, rung: int, wanted: str) -> list[str]:
        """What is tuned at a rung: every part of a family, too, as at another bandwidth another may be faster."""
        return [*(() if self._is_between(rung) else (part for part in parts(wanted) if self._may(rung, part))), wanted]

    def best_of(self, plans: Sequence[Plan]) -> Plan:
        """The fastest of some plans on the machine, with its cycles."""
        return self._priced(self._fastest(self._hardware.link.bytes_per_cycle, plans))

    def first_plans(self, rate: int, wanted: str) -> tuple[Plan, ...]:
        """The most promising settings of a family, which for `auto` are those of every strategy and more."""
        found = self._promising(rate, wanted).plans
        fastest = min(plan.cycles for plan in found if not plan.is_serpentine)
        return tuple(plan for plan in found if not self.is_long or plan.cycles <= FAR_BEHIND * fastest)

    def tuned(self, rate: int, wanted: str) -> Plan:
        """The fastest plan of a family that a search at one bandwidth finds."""
        if (rate, wanted) not in self._found:
            plans = [*self.first_plans(rate, wanted), *(self.tuned(*one) for one in self._before(rate, wanted))]
            seen = dict.fromkeys(_bare(plan) for plan in plans)
            self._found[rate, wanted] = self._around(rate, seen, is_free=wanted == "auto")
            self._runners_up[rate, wanted] = sorted(seen, key=lambda plan: self._cycles(rate, plan))[
                : RUNNERS_UP * (FARTHER if wanted == "auto" else 1)
            ]
        return self._found[rate, wanted]

    def _before(self, rate: int, wanted: str) -> list[tuple[int, str]]:
        """(bandwidth, family) of the searches that one goes on from: the strategies', or those at the powers of two on both sides."""
        below = 1 << (rate.bit_length() - 1)
        rungs = (below, 2 * below) if self._is_between(rate) else (rate,)
        return [(rung, family) for rung in rungs for family in self._families(rung, wanted) if (rung, family) != (rate, wanted)]

    def _is_between(self, rate: int) -> bool:
        """Whether a bandwidth is a rung of `auto` alone."""
        return self._rungs > 0 and rate & (rate - 1) != 0

    def _around(self, rate: int, seen: dict[Plan, None], *, is_free: bool) -> Plan:
        """The best of some plans and of those around them: around the best first, then around the next that was not looked at.

        Args:
            rate: bandwidth.
            seen: plans to begin with; those that are tried are added.
            is_free: whether everything may change that `auto` may.
        """
        left = 0 if self.is_long else self._steps * (FARTHER if is_free else 1)
        looked_at: set[Plan] = set()
        while left > 0 and len(looked_at) < len(seen):
            plan = self._fastest(rate, [one for one in seen if one not in looked_at])
            looked_at.add(plan)
            fresh = [one for one in self._neighbours(plan, is_free=is_free) if one not in seen][:left]
            seen |= dict.fromkeys(fresh)
            left -= len(fresh)
        return self._fastest(rate, list(seen))

    def _fastest(self, rate: int, plans: Sequence[Plan]) -> Plan:
        return min((_bare(plan) for plan in plans), key=lambda plan: self._cycles(rate, plan))

    def _cycles(self, rate: int, plan: Plan) -> float:
        if (rate, plan) not in self._timed:
            self._timed[rate, plan] = self._timer(self._machine(rate), plan)
        return self._timed[rate, plan]

    def _priced(self, plan: Plan) -> Plan:
        return priced(self._hardware, self._work, plan, self._cycles(self._hardware.link.bytes_per_cycle, plan))

    def _machine(self, rate: int) -> SramHardware:
        if rate not in self._machines:
            self._machines[rate] = replace(self._hardware, link=replace(self._hardware.link, bytes_per_cycle=rate))
        return self._machines[rate]

    def _promising(self, rate: int, wanted: str) -> Promising:
        return promising(self._machine(rate), self._work, wanted)

    def _may(self, rate: int, wanted: str) -> bool:
        """Whether anything of a family fits."""
        try:
            self._promising(rate, wanted)
        except CapacityError:
            return False
        return True

    def _neighbours(self, plan: Plan, *, is_free: bool) -> list[Plan]:
        """Settings one step away from a plan, those that fit: another write speed, more or fewer writers, vectors or macros."""
        hardware, work = self._hardware, self._work
        choices = useful_vectors(hardware, work)
        at = min(range(len(choices)), key=lambda i: abs(choices[i] - plan.vectors))
        macro, strategy = hardware.macro, STRATEGIES[plan.strategy]
        step = whole_macros(work.row_tiles(hardware), strategy) if plan.dataflow is Dataflow.ACTIVATIONS else 1 + strategy.pairs
        counts = [
            m // step * step for m in (plan.macros * 3 // 4, plan.macros // 2, plan.macros * 5 // 4, plan.macros - step, plan.macros + step)
        ]
        speeds = [s for s in (macro.fastest_write_bytes_per_cycle, plan.bytes_per_cycle - 1, plan.bytes_per_cycle // 2) if s > 0]
        # In its turn a strategy has as many writers as fill the link at their speed; only `auto` may have others.
        as_many = [plan.writers if is_free else plan.writers * plan.bytes_per_cycle // s for s in speeds]
        writers = (plan.writers - 1, plan.writers + 1, plan.writers * 2, plan.writers * 3 // 4) if strategy.is_staggered and is_free else ()
        wanted = [
            *({"vectors": choices[i]} for i in (at - 1, at + 1, at // 2) if 0 <= i < len(choices)),
            *({"writers": w} for w in writers),
            *({"bytes_per_cycle": s, "writers": min(w, plan.macros)} for s, w in zip(speeds, as_many, strict=True)),
            *({"macros": m, "writers": min(plan.writers, m) if strategy.is_staggered else m} for m in counts),
        ]
        found = [replace(plan, **change) for change in wanted]
        return [one for one in dict.fromkeys(found) if one != plan and self._is_sound(one, is_free=is_free)]

    def _is_sound(self, plan: Plan, *, is_free: bool) -> bool:
        hardware, work, macro = self._hardware, self._work, self._hardware.macro
        if not macro.slowest_write_bytes_per_cycle <= plan.bytes_per_cycle <= macro.fastest_write_bytes_per_cycle:
            return False
        if not 1 <= plan.writers <= plan.macros <= hardware.arrays or (plan.is_serpentine and not may_turn_back(hardware, work, plan)):
            return False
        if plan.dataflow is Dataflow.ACTIVATIONS and not is_free and plan.macros < work.tiles(hardware):
            return False
        strategy = STRATEGIES[plan.strategy]
        if plan.macros > most_macros(hardware, work, strategy, plan.dataflow, plan.vectors):
            return False
        if not strategy.is_staggered and plan.writers != plan.macros:
            return False
        return bool(fits(hardware, work, strategy, plan.dataflow, np.array([plan.macros]), np.array([plan.vectors]))[0])


def _rungs_below(top: int, per_octave: int) -> list[int]:
    """Bandwidths from below a power of two down to 1, so many of each octave as far as they are whole numbers."""
    octaves = (top >> place for place in range(1, top.bit_length()))
    parts = [(octave, min(per_octave, octave)) for octave in octaves]
    return [octave + octave * i // count for octave, count in parts for i in range(count - 1, -1, -1)]


def _bare(plan: Plan) -> Plan:
    """The settings of a plan without what they take, which depends on the bandwidth."""
    return replace(plan, cycles=0.0, bound_cycles=0.0)


__all__ = ["RUNGS_PER_OCTAVE", "Timer", "choose"]

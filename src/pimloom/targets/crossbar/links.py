"""What tasks wait for: their inputs, the results and stores of others, and buffers that are free again."""

from __future__ import annotations

from typing import final

from pimloom.targets.crossbar.compute import Compute
from pimloom.targets.crossbar.emission import Emission
from pimloom.targets.crossbar.memory import Memory
from pimloom.targets.crossbar.placement import Cluster
from pimloom.targets.crossbar.scope import Scope, cores_of
from pimloom.targets.crossbar.stages import Kind, Stage
from pimloom.targets.crossbar.tasks import Work
from pimloom.targets.crossbar.transfers import Transfers


@final
class Links:
    """Adds the dependencies between tasks."""

    def __init__(
        self, scope: Scope, work: Work, memory: Memory, compute: Compute, transfers: Transfers, emitted: Emission
    ) -> None:  # fmt: skip
        """Takes what was emitted."""
        self.scope, self.work, self.memory = scope, work, memory
        self.compute, self.transfers, self.emitted = compute, transfers, emitted

    def emit(self) -> None:
        """Links all tasks."""
        for number, cluster in enumerate(self.scope.clusters):
            stage = self.scope.flow.stages[cluster.stage]
            if stage.kind is Kind.GENERAL:
                self._link_general(number, stage)
                continue
            self._link_inputs(number, cluster, stage)
            self._link_buffers(number, stage)

    def _link_general(self, number: int, stage: Stage) -> None:
        (head,) = self.compute.heads[number][0]
        for operand in stage.inputs:
            for piece in self.scope.flow.sources(operand.value):
                maker = self.scope.stage_of.get(piece.source)
                if maker is None:
                    self.transfers.outside.append((head, piece.source, -1))
                    continue
                if maker.kind is Kind.GENERAL:
                    self.emitted.deps[head] += [self.compute.tails[n][-1] for n in self.scope.of_stage[maker.index]]
                else:
                    self.emitted.deps[head] += self.transfers.stores[piece.source]
        parts = self.scope.of_stage[stage.index]
        if number == parts[-1]:
            # The last part completes the node: it waits for the others.
            self.emitted.deps[head] += [self.compute.tails[n][-1] for n in parts[:-1]]

    def _link_inputs(self, number: int, cluster: Cluster, stage: Stage) -> None:
        """Heads wait for rows that arrived since the task before, and for that task's head."""
        cores = cores_of(cluster)
        known = [[-1] * len(stage.inputs) for _ in cores]
        for index, task in enumerate(self.work.tasks[number]):
            heads = self.compute.heads[number][index]
            for place, core in enumerate(cores):
                head = heads[place] if stage.kind is Kind.MATRIX else heads[-1]
                if index:
                    before = self.compute.heads[number][index - 1]
                    self.emitted.deps[head].append(before[place] if stage.kind is Kind.MATRIX else self.compute.tails[number][index - 1])
                self.emitted.deps[head] += self.transfers.arrived_by_task.get((number, index, core), ())
                for operand in range(len(stage.inputs)):
                    ring = self.memory.ring(number, operand, core)
                    if ring.is_windowed:
                        continue
                    first, last = self.scope.rows_read(stage, operand, task)
                    for row in range(max(first, known[place][operand] + 1), last + 1):
                        self.emitted.deps[head] += self.transfers.arrived[id(ring)][row]
                    known[place][operand] = max(known[place][operand], last)

    def _link_buffers(self, number: int, stage: Stage) -> None:
        """A buffer is written again only after its last reader is done, in this sample or the one before."""
        line = self.work.tasks[number]
        for index in range(len(line)):
            earlier = index - self.scope.buffers_of[number]
            back = earlier < 0
            if back:
                earlier = self.work.same_buffer(number, index)
            edges = self.emitted.back if back else self.emitted.deps
            if stage.kind is Kind.MEAN:
                if index == 0:
                    self.emitted.back[self.compute.heads[number][0][0]].append(self.compute.tails[number][-1])
                    self.emitted.back[self.compute.tails[number][-1]] += self.transfers.reads_of_output[number][-1]
                continue
            if stage.kind is Kind.MATRIX:
                for head in self.compute.heads[number][index]:
                    edges[head].append(self.compute.tails[number][earlier])
                edges[self.compute.tails[number][index]] += self.transfers.reads_of_output[number][earlier]
            else:
                edges[self.compute.heads[number][index][0]] += self.transfers.reads_of_output[number][earlier]

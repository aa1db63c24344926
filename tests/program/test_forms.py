"""Rows of one form cost the same as if each were costed alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles.row_costs import assert_forms_cost_the_same

from pimloom.program import MACHINES, OPCODES, ROW, Program
from pimloom.program.costing import fields_read
from pimloom.program.machine import Forms
from pimloom.program.rows import FIELDS


def test_costs_are_those_of_rows(program: Program) -> None:
    """Programs of every machine that the other tests of this folder know."""
    assert_forms_cost_the_same(program)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_rows_are_of_one_form_if_what_counts_is_equal(cnn: Program, data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 40))
    rows = np.zeros(n, ROW)
    for name in FIELDS:
        rows[name] = data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    rows["spare"] = np.arange(n) % 7
    beside = np.array(data.draw(st.lists(st.integers(-1, 1), min_size=n, max_size=n)), np.int64)
    reads = {0: ("opcode", "length", "stage"), 1: ("opcode", "src1")}
    forms = Forms.of(replace(cnn, rows=rows), reads, beside)
    keys = [(*(int(row[name]) for name in reads[int(row["opcode"])]), int(b)) for row, b in zip(rows, beside, strict=True)]
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    assert forms.of_row.tolist() == [numbers[key] for key in keys]
    assert forms.first.tolist() == [keys.index(key) for key in numbers]
    assert forms.rows.tolist() == [keys.count(key) for key in numbers]


def test_without_a_list_of_fields_all_count(cnn: Program) -> None:
    machine = MACHINES["crossbar"]
    reads = fields_read(replace(machine, reads={"mvm": ("length",)}))
    assert reads.keys() == {OPCODES[name] for name in machine.costs}
    assert reads.pop(OPCODES["mvm"]) == ("opcode", "node", "stage", "count", "length")
    assert set(reads.values()) == {FIELDS}
    rows = np.zeros(2 * len(FIELDS), ROW)
    for i, name in enumerate(FIELDS):
        rows[name][2 * i : 2 * i + 2] = 1
    forms = Forms.of(replace(cnn, rows=rows), {0: FIELDS, 1: FIELDS})
    assert forms.of_row.tolist() == [i // 2 for i in range(rows.size)]


@pytest.mark.parametrize("kind", list(MACHINES))
def test_fields_are_fields(kind: str) -> None:
    for name, fields in (MACHINES[kind].reads or {}).items():
        assert name in MACHINES[kind].costs
        assert set(fields) <= set(FIELDS)

"""Rows of one form cost the same as if each were costed alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles.row_costs import assert_forms_cost_the_same

from pimloom.kernels import forms
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
    found = Forms.of(replace(cnn, rows=rows), reads, beside)
    keys = [(*(int(row[name]) for name in reads[int(row["opcode"])]), int(b)) for row, b in zip(rows, beside, strict=True)]
    numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    assert found.of_row.tolist() == [numbers[key] for key in keys]
    assert found.first.tolist() == [keys.index(key) for key in numbers]
    assert found.rows.tolist() == [keys.count(key) for key in numbers]


@pytest.mark.parametrize("dims", [3, 4, 8])
def test_rows_in_even_steps_hash_apart(dims: int) -> None:
    """Addresses that rise row by row are what tables hold: of a grid hardly any two share the bits that say where they are looked for."""
    steps = np.indices((round(40000 ** (1 / dims)),) * dims).reshape(dims, -1).T.astype(np.uint64)
    for scale in (1, 64, 1 << 32):
        places = {int(forms.hash_of(np.append(row * np.uint64(scale), np.uint64(7)))) >> 32 for row in steps}
        assert len(places) > 0.999 * len(steps)


def test_without_a_list_of_fields_all_count(cnn: Program) -> None:
    machine = MACHINES["crossbar"]
    reads = fields_read(replace(machine, reads={"mvm": ("length",)}))
    assert reads.keys() == {OPCODES[name] for name in machine.costs}
    assert reads.pop(OPCODES["mvm"]) == ("opcode", "node", "stage", "count", "length")
    assert set(reads.values()) == {FIELDS}
    rows = np.zeros(2 * len(FIELDS), ROW)
    for i, name in enumerate(FIELDS):
        rows[name][2 * i : 2 * i + 2] = 1
    found = Forms.of(replace(cnn, rows=rows), {0: FIELDS, 1: FIELDS})
    assert found.of_row.tolist() == [i // 2 for i in range(rows.size)]


@pytest.mark.parametrize("kind", list(MACHINES))
def test_fields_are_fields(kind: str) -> None:
    for name, fields in (MACHINES[kind].reads or {}).items():
        assert name in MACHINES[kind].costs
        assert set(fields) <= set(FIELDS)

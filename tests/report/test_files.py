"""Files are written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pimloom.errors import UsageError
from pimloom.report import write_json
from pimloom.report.files import plain, write_whole
from pimloom.result import Result, Verification


def test_an_existing_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old and longer")
    assert write_whole(path, b"new") == path
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    message = r"^report: cannot write '.*x/r.html': there is no folder '.*x'; create it or choose another path$"
    with pytest.raises(UsageError, match=message):
        write_whole(tmp_path / "x" / "r.html", b"")


def test_a_path_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UsageError, match=r"^report: cannot write '.*taken': Is a directory; choose a path that can be written$"):
        write_whole(tmp_path / "taken", b"text")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_plain_values() -> None:
    value = {"a": np.float32(0.5), 3: (np.int64(1), float("nan")), "c": np.array([[1, 2]]), "d": float("inf"), "e": None, "f": Path("x")}
    assert plain(value) == {"a": 0.5, "3": [1, None], "c": [[1, 2]], "d": None, "e": None, "f": "x"}


def test_json_holds_the_documented_form(make_result: Callable[..., Result], tmp_path: Path) -> None:
    odd = Verification("onnxruntime", True, float("nan"), 0.0, float("inf"), True)
    result = make_result(verification=odd, notes={"shape": (np.int64(2), 3)})
    text = write_json(result, tmp_path / "r.json").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found["model"] == "resnet18"
    assert found["verify"]["error_bound"] is None
    assert found["notes"] == {"shape": [2, 3]}
    assert len(found["layers"]) == 40
    assert found["energy_pj"]["total"] == pytest.approx(result.total_energy_pj)

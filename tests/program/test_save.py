"""Program files: what comes back is what was saved, and nothing but a whole and sound file comes back."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pimloom.errors import ProgramError
from pimloom.execute import Interpreter, encode_inputs
from pimloom.ir import FileConstant, FillConstant, Graph, SeededConstant, TensorType, evaluate, print_graph
from pimloom.program import Program, save
from pimloom.program.save import VERSION, load_program, save_program
from pimloom.simulate import simulate

Array = np.ndarray[Any, np.dtype[Any]]
Members = dict[str, bytes]


def assert_equal(found: Program, expected: Program) -> None:
    for field in fields(Program):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        match field.name:
            case "graph":
                assert print_graph(a) == print_graph(b)
            case "matrices":
                assert [m.name for m in a] == [m.name for m in b]
                for one, other in zip(a, b, strict=True):
                    assert one.codes.dtype == other.codes.dtype
                    np.testing.assert_array_equal(one.codes, other.codes)
            case "groups":
                for column in fields(b):
                    np.testing.assert_array_equal(getattr(a, column.name), getattr(b, column.name))
            case "notes":
                assert a == json.loads(json.dumps(b))
            case _ if isinstance(b, np.ndarray):
                assert a.dtype == b.dtype, field.name
                np.testing.assert_array_equal(a, b)
            case _:
                assert a == b, field.name


def members_of(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, members: Members) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def array_bytes(array: Array, *, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def header_of(members: Members) -> dict[str, Any]:
    return json.loads(np.load(io.BytesIO(members["header.npy"])).tobytes())


def with_header(members: Members, **changes: Any) -> Members:
    text = json.dumps({**header_of(members), **changes})
    return {**members, "header.npy": array_bytes(np.frombuffer(text.encode(), np.uint8))}


@pytest.fixture
def saved(cnn: Program, tmp_path: Path) -> Path:
    path = tmp_path / "p.npz"
    save_program(cnn, path)
    return path


def refused(path: Path) -> str:
    """The refusal, which begins with the path and is one sentence."""
    with pytest.raises(ProgramError, match=rf"^{re.escape(str(path))}: ") as caught:
        load_program(path)
    return str(caught.value).removeprefix(f"{path}: ")


# -- round trip -----------------------------------------------------------------------------------------------------


def test_what_is_loaded_is_what_was_saved(
    program: Program, tmp_path: Path, example: Callable[[Program], dict[str, Array]]
) -> None:
    save_program(program, tmp_path / "p.npz")
    loaded = load_program(tmp_path / "p.npz")
    assert_equal(loaded, program)
    codes = encode_inputs(program, example(program))
    outputs = Interpreter(loaded).run(codes)
    meaning = evaluate(program.graph, codes)
    assert outputs.keys() == meaning.keys()
    for name, output in Interpreter(program).run(codes).items():
        np.testing.assert_array_equal(outputs[name], output)
        np.testing.assert_array_equal(outputs[name], meaning[name])


def test_a_loaded_program_takes_the_same_time(cnn: Program, saved: Path) -> None:
    before, after = simulate(cnn), simulate(load_program(saved))
    for name in ("latency_cycles", "period_cycles", "energy_pj", "waits_cycles"):
        assert getattr(before, name) == getattr(after, name), name


def test_equal_programs_give_equal_bytes(cnn: Program, saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.npz"
    save_program(load_program(saved), again)
    assert again.read_bytes() == saved.read_bytes()
    save_program(cnn, again)
    assert again.read_bytes() == saved.read_bytes()


def test_numpy_reads_the_file_without_pickles(saved: Path, cnn: Program) -> None:
    with np.load(saved, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["rows.dst"], cnn.rows["dst"])
        assert all(array.dtype.kind in "iuf" for array in arrays.values())


def test_weights_are_stored_once(make: Callable[[str], Program], tmp_path: Path) -> None:
    """A matrix that is its constant in another order is a recipe; one of bundled groups is not, and is stored."""
    forms: dict[str, set[str]] = {}
    for name in ("messages", "grouped"):
        save_program(make(name), tmp_path / "p.npz")
        members = members_of(tmp_path / "p.npz")
        forms[name] = {stored["form"] for stored in header_of(members)["matrices"]}
        assert any(member.startswith("matrix.") for member in members) == ("array" in forms[name])
    assert forms == {"messages": {"codes", "kernels"}, "grouped": {"array"}}


def test_the_file_needs_no_other_file(cnn: Program, tmp_path: Path) -> None:
    """Constants in a file of their own are copied; recipes stay recipes."""
    name = next(n for n, c in cnn.graph.constants.items() if c.type.size > 64)
    constant = cnn.graph.constants[name]
    external = tmp_path / "weights.bin"
    external.write_bytes(constant.array().tobytes())
    extra = {
        "filled": FillConstant(TensorType("float32", (1000,)), 0.5),
        "seeded": SeededConstant(TensorType("float32", (1000,)), 3),
        "short": FileConstant(TensorType("int8", (4,)), external, 0),
    }
    graph = replace(
        cnn.graph,
        constants={**cnn.graph.constants, name: FileConstant(constant.type, external, 0), **extra},
        types={**cnn.graph.types, **{n: c.type for n, c in extra.items()}},
    )
    save_program(replace(cnn, graph=graph), tmp_path / "p.npz")
    short = extra["short"].array().copy()
    external.unlink()
    loaded = load_program(tmp_path / "p.npz").graph.constants
    np.testing.assert_array_equal(loaded[name].array(), constant.array())
    np.testing.assert_array_equal(loaded["short"].array(), short)
    assert (loaded["filled"], loaded["seeded"]) == (extra["filled"], extra["seeded"])


def test_notes_keep_their_numbers(cnn: Program, tmp_path: Path) -> None:
    notes = {
        "a": np.float64(0.1),
        "b": (1, np.int32(2)),
        "c": {"d": None, "e": True},
        "f": float("inf"),
        "g": "\n\u2028",
    }
    save_program(replace(cnn, notes=notes), tmp_path / "p.npz")
    found = load_program(tmp_path / "p.npz").notes
    assert found == {"a": 0.1, "b": [1, 2], "c": {"d": None, "e": True}, "f": float("inf"), "g": "\n\u2028"}


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ({"a": [0, {1}]}, r"notes: a\[1\]: found a set, expected numbers, text"),
        ({"a": {3: 1}}, "notes: a: found the key 3, expected text"),
    ],
)
def test_notes_without_a_json_form_are_refused(cnn: Program, tmp_path: Path, notes: Any, expected: str) -> None:
    with pytest.raises(ProgramError, match=expected):
        save_program(replace(cnn, notes=notes), tmp_path / "p.npz")
    assert not list(tmp_path.iterdir())


def test_numbers_that_do_not_fit_are_refused(cnn: Program, tmp_path: Path) -> None:
    wide = cnn.pattern_offset.astype(np.int64)
    wide[0] = 2**40
    with pytest.raises(
        ProgramError, match="pattern_offset: numbers up to 1099511627776 found, numbers that fit int32 expected"
    ):
        save_program(replace(cnn, pattern_offset=wide), tmp_path / "p.npz")


# -- writing --------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_or_not_at_all(cnn: Program, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", fail)
    with pytest.raises(ProgramError, match=r"p\.npz: cannot be written \(No space left on device\), expected a folder"):
        save_program(replace(cnn, name="other"), saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["p.npz"]


def test_paths_that_cannot_be_written(cnn: Program, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"nowhere/p\.npz: cannot be written \(No such file or directory\)"):
        save_program(cnn, tmp_path / "nowhere" / "p.npz")
    with pytest.raises(ProgramError, match="found a folder, expected the name of a file"):
        save_program(cnn, tmp_path)


# -- files that are no program --------------------------------------------------------------------------------------


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.npz") == "file not found, expected a program file; check the path"
    assert refused(tmp_path) == "found a folder, expected a program file; name a file in it"
    (tmp_path / "text.npz").write_text("program tiny\n")
    assert refused(tmp_path / "text.npz").startswith(
        "cannot be read (File is not a zip file), expected a whole program"
    )
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    assert refused(tmp_path / "other.npz").startswith("an archive without header found, a program file expected")


def test_every_truncation_is_refused(saved: Path, tmp_path: Path) -> None:
    content, path = saved.read_bytes(), tmp_path / "short.npz"
    for length in range(0, len(content), max(len(content) // 60, 1)):
        path.write_bytes(content[:length])
        assert "expected a whole program file; save the program again" in refused(path)


def test_mutated_bytes_are_refused_or_change_nothing(cnn: Program, saved: Path, tmp_path: Path) -> None:
    content, path, rng = saved.read_bytes(), tmp_path / "mutated.npz", np.random.default_rng(1)
    n_refused = 0
    for _ in range(150):
        changed = bytearray(content)
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            loaded = load_program(path)
        except ProgramError:
            n_refused += 1
        else:
            assert_equal(loaded, cnn)
    assert n_refused > 100


def test_mutated_members_are_refused_or_sound(saved: Path, tmp_path: Path) -> None:
    """Checksums are right, content is not: what is loaded all the same can be written and loaded again."""
    members, path, rng = members_of(saved), tmp_path / "mutated.npz", np.random.default_rng(2)
    n_refused = 0
    for _ in range(250):
        name = str(rng.choice(list(members)))
        content = bytearray(members[name])
        content[rng.integers(len(content))] = rng.integers(256)
        write(path, {**members, name: bytes(content)})
        try:
            loaded = load_program(path)
        except ProgramError:
            n_refused += 1
        else:
            save_program(loaded, path)
            assert_equal(load_program(path), loaded)
    assert n_refused > 100


# -- files that mean harm -------------------------------------------------------------------------------------------


def test_pickles_are_never_read(saved: Path, tmp_path: Path) -> None:
    """Whatever stands in a pickle, it is refused before it could run."""

    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "harm",))

    harm = np.array([Harm()], object)
    for name in ("header.npy", "rows.dst.npy", "constant.0.npy"):
        path = write(tmp_path / "p.npz", {**members_of(saved), name: array_bytes(harm, allow_pickle=True)})
        assert "that is no plain array found" in refused(path)
        path = write(tmp_path / "p.npz", {**members_of(saved), name: pickle.dumps(harm)})
        assert "that is no plain array found" in refused(path)
    assert not (tmp_path / "harm").exists()


def bomb(shape: str, content: bytes = b"", kind: str = "<i4") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (bomb("(1099511627776,)"), "'partner' of 0 bytes found, 4398046511104 for int32"),
        (bomb("(1,)", b"\0" * 400), "'partner' of 400 bytes found, 4 for int32"),
        (bomb("(-1,)"), "'partner' that is no plain array found"),
        (bomb("(1, 1)", b"\0" * 4), "'partner' of int32[1, 1] found, int32 of one dimension expected"),
        (bomb("(1,)", b"\0" * 8, "<f8"), "'partner' of float64[1] found, int32 of one dimension expected"),
        (bomb("(1,)", b"\0" * 4, ">i4"), "'partner' that is no plain array found"),
        (bomb("(__import__('os').system('false'),)"), "'partner' that is no plain array found"),
        (b"\x93NUMPY\x02\x00", "'partner' that is no plain array found"),
        (b"", "'partner' that is no plain array found"),
    ],
)
def test_arrays_that_are_not_what_they_say(content: bytes, expected: str, saved: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "p.npz", {**members_of(saved), "partner.npy": content})
    assert refused(path).startswith(expected)


def test_bombs_are_refused_by_their_declared_size(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save, "MOST_BYTES", 10**6)
    members = {**members_of(saved), "partner.npy": bomb("(1000000,)", b"\0" * 4 * 10**6)}
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert path.stat().st_size < 10**5
    assert re.match(r"\d{7} bytes when unpacked found, at most 1000000 expected; do not trust this file", refused(path))


def test_recipes_for_too_many_elements_are_refused(saved: Path, tmp_path: Path) -> None:
    members = members_of(saved)
    text = header_of(members)["graph"]
    bigger = text.replace(
        "  output ", "  const huge: float32[1000000000000] = seeded(seed=1, mean=0.0, std=1.0)\n  output "
    )
    assert bigger != text
    path = write(tmp_path / "p.npz", with_header(members, graph=bigger))
    assert re.match(r"constants of 4\d{12} bytes found, at most 8000000000 expected; do not trust", refused(path))


HEADER_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "another format": (
        {"format": "zip"},
        "another format found, 'pimloom program' expected; give a file that pimloom saved",
    ),
    "a later version": (
        {"version": VERSION + 1},
        f"version {VERSION + 1} found, version {VERSION} expected; read it with the pimloom",
    ),
    "no version": ({"version": None}, f"version unknown found, version {VERSION} expected"),
    "text for a number": (
        {"samples": "1"},
        r"a header whose 'samples' is wrong \(Input should be a valid integer\) found",
    ),
    "a region without layout": ({"regions": [{"value": "x"}]}, r"a header whose 'regions.0.address' is wrong"),
    "no sample": ({"samples": 0}, "program 'tiny_cnn': 0 samples found"),
    "another instruction set": (
        {"opcodes": ["fly"] * 20},
        "instruction 'fly' found, one of mvm, .* expected; use the pimloom that wrote it",
    ),
    "fewer instructions": ({"opcodes": []}, r"instruction 'opcode \d+' found, one of mvm"),
    "a machine from elsewhere": (
        {"hardware": "inherits: /etc/passwd.yaml"},
        "hardware: 'inherits' found, a complete machine expected",
    ),
    "a machine that is none": ({"hardware": "kind: crossbar"}, "hardware: .*; save the program again"),
    "a machine that is no YAML": ({"hardware": "{"}, "hardware: .*; save the program again"),
    "a graph that is none": ({"graph": "graph g {"}, "graph: line 1: .*; save the program again"),
    "a number without end": (
        {"graph": "graph g { input x: float32[" + "9" * 5000 + "] }"},
        "graph: .*; save the program again",
    ),
    "constants that are not there": ({"constants": ["a"] * 99}, r"no array 'constant.\d+' found, one expected"),
    "an unknown recipe": (
        {"matrices": [{"name": "w", "form": "run", "start": 0, "stop": 0}]},
        "matrix 0 as 'run' of 'w' found, a form",
    ),
    "a block beyond all memory": (
        {"blocks": [{"processor": 0, "address": 10**30, "size_bytes": 8, "label": "", "fill": None, "dtype": "int8"}]},
        "program 'tiny_cnn': 1 fault found",
    ),
}


@pytest.mark.parametrize("fault", HEADER_FAULTS)
def test_headers_that_are_wrong(fault: str, saved: Path, tmp_path: Path) -> None:
    changes, expected = HEADER_FAULTS[fault]
    path = write(tmp_path / "p.npz", with_header(members_of(saved), **changes))
    assert re.match(expected, refused(path), re.DOTALL)


def test_headers_that_are_no_json(saved: Path, tmp_path: Path) -> None:
    for text in (b"", b"{", b"\xff", b"[" * 10**5):
        broken = {**members_of(saved), "header.npy": array_bytes(np.frombuffer(text, np.uint8))}
        assert refused(write(tmp_path / "p.npz", broken)).startswith("a header that is no JSON found")


def test_a_graph_that_reads_other_files_is_refused(saved: Path, tmp_path: Path) -> None:
    members = members_of(saved)
    text = header_of(members)["graph"].replace(
        "  output ", '  const k: int8[4] = external("/etc/passwd", 0)\n  output '
    )
    path = write(tmp_path / "p.npz", with_header(members, graph=text))
    assert refused(path).startswith(
        "constant 'k' in another file found, all constants in this one expected; do not trust"
    )


def test_a_graph_whose_types_are_wrong_is_refused(saved: Path, tmp_path: Path) -> None:
    members = members_of(saved)
    text = header_of(members)["graph"]
    changed = text.replace("fc: int8[1,10]", "fc: int8[1,11]")
    assert changed != text
    path = write(tmp_path / "p.npz", with_header(members, graph=changed))
    assert re.match(r"graph: .*output 'fc' is int8\[1,11\], shape \[1, 10\] expected", refused(path), re.DOTALL)


def test_constants_have_the_digest_that_the_graph_states(saved: Path, tmp_path: Path) -> None:
    members = members_of(saved)
    content = bytearray(members["constant.0.npy"])
    content[-1] ^= 1
    path = write(tmp_path / "p.npz", {**members, "constant.0.npy": bytes(content)})
    assert re.match(r"graph: .*has digest \w+, \w+ expected", refused(path))


def test_members_that_do_not_belong(saved: Path, tmp_path: Path) -> None:
    members = members_of(saved)
    path = write(tmp_path / "p.npz", {**members, "extra.npy": array_bytes(np.zeros(1))})
    assert refused(path).startswith("an array 'extra' that belongs to no program found, none expected")
    del members["groups.matrix.npy"]
    assert refused(write(path, members)).startswith("no array 'groups.matrix' found, one expected")
    members = members_of(saved)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "w") as archive:
        for name in (*members, "partner.npy"):
            archive.writestr(name, members[name])
    assert refused(path).startswith("two arrays of one name found")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert refused(path).startswith("an unusual compression found, 'deflate' expected")


def test_columns_of_two_lengths(saved: Path, tmp_path: Path) -> None:
    broken = {**members_of(saved), "rows.dst.npy": array_bytes(np.zeros(3, np.int64))}
    assert re.match(
        r"columns of \[3, \d+\] rows found, equal ones expected", refused(write(tmp_path / "p.npz", broken))
    )


def test_a_faulty_program_is_refused(cnn: Program, tmp_path: Path) -> None:
    """A file may hold any program; it is verified when it is read."""
    rows = cnn.rows.copy()
    rows["dst"][3] = 10**9
    save_program(replace(cnn, rows=rows), tmp_path / "p.npz")
    assert re.match(
        r"program 'tiny_cnn': 1 fault found.*:\n  row 3 \(\w+\) on core \d: dst spans bytes",
        refused(tmp_path / "p.npz"),
    )


def test_instructions_may_be_numbered_otherwise(cnn: Program, saved: Path, tmp_path: Path) -> None:
    """A file keeps its meaning when a later instruction set inserts a row."""
    members = members_of(saved)
    opcodes = header_of(members)["opcodes"]
    shifted = {**members, "rows.opcode.npy": array_bytes(cnn.rows["opcode"] + np.uint8(1))}
    path = write(tmp_path / "p.npz", with_header(shifted, opcodes=["gone", *opcodes]))
    assert_equal(load_program(path), cnn)


def test_a_graph_is_not_changed_by_saving(cnn: Program, saved: Path) -> None:
    loaded: Graph = load_program(saved).graph
    assert loaded.types == cnn.graph.types
    assert loaded.nodes == cnn.graph.nodes
    assert list(loaded.constants) == list(cnn.graph.constants)

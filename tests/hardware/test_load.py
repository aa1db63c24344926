"""Loading: inheritance, overrides, the YAML subset, round trips, and one sentence for every malformed file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pimloom.errors import HardwareError
from pimloom.hardware import KINDS, json_schema, load_hardware, parse_hardware, preset_names, preset_text, to_yaml

TOY = preset_text("toy")


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# -- malformed files -----------------------------------------------------------------------------------------

# Text after `inherits: toy`, and what the one line of the message must contain, in order.
WRONG_VALUES = {
    "negative size": ("core: {local_memory: {size_bytes: -64}}",
        "t.yaml: core.local_memory.size_bytes: found -64, expected a positive integer of bytes; write e.g. 65536"),
    "zero size": ("core: {local_memory: {size_bytes: 0}}", "size_bytes: found 0, expected a positive integer of bytes"),
    "absurd size": ("global_memory: {size_bytes: 17592186044417}",
        "found 17592186044417, expected a positive integer of bytes up to 17592186044416; write"),
    "huge integer": ("global_memory: {size_bytes: 0xffffffffffffffffffffffffffffffff}", "found 3402823669209384634"),
    "quoted number": ("chips: '1'", "chips: found '1' (text), expected a positive integer of chips; write e.g. 1"),
    "fraction for integer": ("chips: 1.5", "chips: found 1.5, expected a positive integer of chips"),
    "float for integer": ("chips: 1.0", "chips: found 1.0, expected a positive integer of chips"),
    "exponent for integer": ("core: {local_memory: {size_bytes: 1e4}}", "found 10000.0, expected a positive integer"),
    "boolean for integer": ("chips: true", "chips: found true (a boolean), expected a positive integer of chips"),
    "boolean for float": ("clock_ghz: true", "clock_ghz: found true (a boolean), expected a positive number of giga"),
    "integer for boolean": ("crossbar: {pipelined: 1}", "pipelined: found 1, expected true or false; write e.g. true"),
    "yes for boolean": ("crossbar: {pipelined: yes}", "pipelined: found 'yes' (text), expected true or false"),
    "on for boolean": ("crossbar: {pipelined: on}", "pipelined: found 'on' (text), expected true or false"),
    "text for boolean": ("crossbar: {pipelined: 'true'}", "pipelined: found 'true' (text), expected true or false"),
    "nan": ("clock_ghz: .nan", "clock_ghz: found nan, expected a positive number of gigahertz; write e.g. 1"),
    "infinity": ("clock_ghz: .inf", "clock_ghz: found inf, expected a positive number of gigahertz up to 100; write"),
    "minus infinity": ("clock_ghz: -.inf", "clock_ghz: found -inf, expected a positive number of gigahertz; write"),
    "overflowing float": ("clock_ghz: 1e999", "clock_ghz: found inf, expected a positive number"),
    "zero clock": ("clock_ghz: 0", "clock_ghz: found 0, expected a positive number of gigahertz"),
    "zero clock, float": ("clock_ghz: 0.0", "clock_ghz: found 0.0, expected a positive number of gigahertz"),
    "clock in Hz": ("clock_ghz: 1000000000", "found 1000000000, expected a positive number of gigahertz up to 100"),
    "negative energy": ("crossbar: {adc_energy_pj: -0.1}", "found -0.1, expected a non-negative number of picojoules"),
    "energy in words": ("crossbar: {adc_energy_pj: 2 pJ}", "adc_energy_pj: found '2 pJ' (text), expected a non-negat"),
    "negative power": ("noc: {router_static_mw: -1}", "router_static_mw: found -1, expected a non-negative number of"),
    "octal": ("chips: 010", "chips: found '010' (text), expected a positive integer of chips"),
    "sexagesimal": ("chips: 1:30", "chips: found '1:30' (text), expected a positive integer of chips"),
    "underscores": ("chips: 1_0", "chips: found '1_0' (text), expected a positive integer of chips"),
    "digits without end": (f"chips: {'9' * 5000}", "chips: found '99999999999999999999999999999999999"),
    "date": ("clock_ghz: 2016-06-18", "clock_ghz: found '2016-06-18' (text), expected a positive number"),
    "unknown word": ("noc: {topology: torus}", "noc.topology: found 'torus' (text), expected one of mesh, bus; write"),
    "misspelt word": ("noc: {topology: mehs}", "expected one of mesh, bus; write e.g. mesh (did you mean 'mesh'?)"),
    "upper case word": ("noc: {topology: MESH}", "expected one of mesh, bus; write e.g. mesh (did you mean 'mesh'?)"),
    "number for word": ("noc: {topology: 1}", "noc.topology: found 1, expected one of mesh, bus"),
    "list for word": ("noc: {topology: [mesh]}", "noc.topology: found a list of 1, expected one of mesh, bus"),
    "three ports": ("core: {local_memory: {ports: 3}}", "local_memory.ports: found 3, expected one of 1, 2"),
    "true port": ("core: {local_memory: {ports: true}}", "ports: found true (a boolean), expected one of 1, 2"),
    "odd precision": ("precision: {weight_bits: 12}", "weight_bits: found 12, expected one of 8, 16; write e.g. 8"),
    "float precision": ("precision: {weight_bits: 8.0}", "weight_bits: found 8.0, expected one of 8, 16"),
    "signed misspelt": ("crossbar: {signed: diferential}", "(did you mean 'differential'?)"),
    "issue order misspelt": ("core: {issue: {order: inorder}}", "(did you mean 'in_order'?)"),
    "no window": ("core: {issue: {window: 0}}", "core.issue.window: found 0, expected a positive integer of instr"),
    "communication": ("core: {communication: async}", "expected one of synchronous, asynchronous"),
    "zero rows": ("crossbar: {rows: 0}", "crossbar.rows: found 0, expected a positive integer of crossbar lines"),
    "no reads": ("crossbar: {read_cycles: 0}", "crossbar.read_cycles: found 0, expected a positive integer of cycles"),
    "cell bits": ("crossbar: {cell_bits: 17}", "cell_bits: found 17, expected a positive integer of bits up to 16"),
    "too many DACs": ("crossbar: {dac_count: 33}", "t.yaml: crossbar: found 33, expected a dac_count of at most rows"),
    "too many ADCs": ("crossbar: {adc_count: 64}", "t.yaml: crossbar: found 64, expected an adc_count of at most cols"),
    "weight wider than a crossbar": ("crossbar: {cols: 1, adc_count: 1}",
        "t.yaml: found 1, expected crossbar.cols of at least 2, the columns of one 8-bit weight; widen the crossbar"),
    "too many cores for the grid": ("chip: {cores: 5}", "t.yaml: chip: found 5, expected cores of at most core_rows"),
    "no cores": ("chip: {cores: 0}", "t.yaml: chip.cores: found 0, expected a positive integer of cores"),
    "grid too large": ("chip: {core_rows: 65536}", "chip: found 131072, expected core_rows * core_cols of at most"),
    "beat longer than local memory": ("core: {local_memory: {size_bytes: 8}}",
        "core.local_memory: found 16, expected a width_bytes of at most size_bytes = 8; enlarge the memory"),
    "beat longer than global memory": ("global_memory: {size_bytes: 8}", "t.yaml: global_memory: found 16, expected"),
    "chips without link": ("chips: 2", "t.yaml: found 2, expected a chip_link where chips > 1; describe chip_link"),
    "half a chip link": ("chip_link: {bytes_per_cycle: 1, latency_cycles: 1, static_mw: 1}",
        "chip_link.energy_pj_per_byte: missing, expected a non-negative number of picojoules; add it, or inherit"),
    "chip link without bandwidth": (
        "chip_link: {bytes_per_cycle: 0, latency_cycles: 1, static_mw: 1, energy_pj_per_byte: 1}",
        "chip_link.bytes_per_cycle: found 0, expected a positive number of bytes per cycle"),
    "unknown key": ("frequency: 1", "t.yaml: frequency: unknown key, expected one of name, kind, description"),
    "misspelt key": ("clock_gzh: 1", "clock_gzh: unknown key (did you mean 'clock_ghz'?), expected one of name, kind"),
    "misspelt inner key": ("core: {crosbars: 4}", "core.crosbars: unknown key (did you mean 'crossbars'?), expected"),
    "key in the wrong place": ("crossbars: 4", "crossbars: unknown key (did you mean 'crossbar'?), expected one of"),
    "time in ns": ("crossbar: {read_ns: 100}", "crossbar.read_ns: unknown key (did you mean 'read_cycles'?)"),
    "merge key": ("<<: {chips: 1}", "t.yaml: <<: unknown key, expected one of name, kind"),
    "part is a number": ("noc: 3", "noc: found 3, expected a mapping with topology, flit_bytes"),
    "part is a list": ("noc: [mesh, 8]", "noc: found a list of 2, expected a mapping with topology, flit_bytes"),
    "part is text": ("core: fast", "core: found 'fast' (text), expected a mapping with local_memory, vector_unit"),
    "part is empty": ("core:", "t.yaml: core: missing, expected a mapping with local_memory, vector_unit"),
    "value is empty": ("clock_ghz:", "t.yaml: clock_ghz: missing, expected a positive number of gigahertz; add it"),
    "value is a mapping": ("clock_ghz: {value: 1}", "clock_ghz: found a mapping with 1 key, expected a positive num"),
    "name is empty": ("name: ''", "name: found '' (text), expected a name of at most 100 printable characters"),
    "name is a number": ("name: 7", "name: found 7, expected a name of at most 100 printable characters; write e.g."),
    "name is endless": (f"name: {'x' * 101}", "expected a name of at most 100 printable characters"),
    "name with control": ('name: "a\\u0007b"', "name: found 'a\\x07b' (text), expected a name of at most 100 print"),
    "unknown kind": ("kind: vram", "t.yaml: kind: found 'vram' (text), expected one of crossbar, sram"),
    "misspelt kind": ("kind: crosbar", "write e.g. kind: crossbar (did you mean 'crossbar'?)"),
    "kind is a list": ("kind: [crossbar]", "t.yaml: kind: found a list of 1, expected one of crossbar"),
    "kind is taken away": ("kind:", "t.yaml: kind: missing, expected one of crossbar, sram"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_VALUES)
def test_a_wrong_value_is_answered_with_one_sentence(case: str, tmp_path: Path) -> None:
    text, expected = WRONG_VALUES[case]
    with pytest.raises(HardwareError) as caught:
        load_hardware(write(tmp_path, "t.yaml", f"inherits: toy\n{text}\n"))
    check_sentence(str(caught.value), "t.yaml: ", expected)


# The whole text of a file, and what the message must contain.
WRONG_FILES = {
    "empty": ("", "t.yaml: found nothing, expected a mapping of keys; begin with 'inherits: isaac'"),
    "only a comment": ("# nothing\n", "t.yaml: found nothing, expected a mapping"),
    "a list": ("- 1\n- 2\n", "t.yaml: found a list of 2, expected a mapping"),
    "a word": ("isaac", "t.yaml: found 'isaac' (text), expected a mapping"),
    "a number": ("3", "t.yaml: found 3, expected a mapping"),
    "two documents": ("inherits: toy\n---\nchips: 1\n", "t.yaml: line 2: found a second document, expected one;"),
    "key twice": ("inherits: toy\nchips: 1\nchips: 2\n", "t.yaml: line 3: key 'chips' stands twice, expected once"),
    "inner key twice": ("inherits: toy\nnoc: {topology: bus, 'topology': bus}\n", "key 'topology' stands twice"),
    "alias": ("inherits: toy\nname: &n x\ndescription: *n\n", "line 2: found an anchor or alias, expected plain"),
    "alias bomb": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "line 1: found an anchor or alias, expected plain"),
    "python tag": ("inherits: !!python/object/apply:os.system ['true']\n", "line 1: found a tag, expected plain"),
    "standard tag": ("inherits: toy\nchips: !!int '1'\n", "line 2: found a tag, expected plain values; remove the"),
    "own tag": ("inherits: toy\nchips: !one 1\n", "line 2: found a tag, expected plain values"),
    "unbalanced bracket": ("inherits: toy\nnoc: {topology: mesh\n", "t.yaml: line 3: not YAML (expected ',' or '}'"),
    "tab": ("inherits: toy\nnoc:\n\ttopology: bus\n", "t.yaml: line 3: not YAML (found character '\\t' that cannot"),
    "bad indentation": ("inherits: toy\n  chips: 1\n", "t.yaml: line 2: not YAML (mapping values are not allowed"),
    "open quote": ("inherits: 'toy\n", "t.yaml: line 2: not YAML (found unexpected end of stream)"),
    "no colon": ("inherits: toy\nchips 1\n", "t.yaml: line 3: not YAML (could not find expected ':')"),
    "undefined alias": ("inherits: *toy\n", "line 1: found an anchor or alias"),
    "deep lists": ("a: " + "[" * 2000, "t.yaml: line 1: found more than 16 levels of nesting, expected fewer"),
    "deep mappings": ("a: " + "{a: " * 50 + "1" + "}" * 50, "line 1: found more than 16 levels of nesting"),
    "number as key": ("1: 2\n", "t.yaml: line 1: found the key '1', expected a word; write e.g. 'name: value'"),
    "null as key": ("null: 2\n", "t.yaml: line 1: found the key 'null', expected a word"),
    "list as key": ("[a, b]: 2\n", "t.yaml: line 1: found the key 'a nested value', expected a word"),
    "control character": ("inherits: toy\x01\n", "t.yaml: not YAML (special characters are not allowed), expected"),
    "bad directive": ("%YAML 3.0\n---\na: 1\n", "not YAML (found incompatible YAML document"),
    "no kind": ("name: x\n", "t.yaml: kind: missing, expected one of crossbar, sram"),
    "inherits a number": ("inherits: 3\n", "t.yaml: inherits: found 3, expected the name of a preset or file; write"),
    "inherits a list": ("inherits: [toy, isaac]\n", "t.yaml: inherits: found a list of 2, expected the name of a"),
    "inherits nothing": ("inherits:\n", "t.yaml: inherits: found nothing, expected the name of a preset or file"),
    "inherits unknown": ("inherits: isac\n", "t.yaml: inherits: hardware 'isac': unknown, expected one of gpp-256"),
    "inherits itself": ("inherits: ./t.yaml\n",
        "t.yaml: inherits: t.yaml: 'inherits' leads back to itself (t.yaml -> t.yaml), expected an end; remove one"),
    "inherits a lost file": ("inherits: lost.yaml\n", "lost.yaml: file not found, expected a YAML file; check"),
    "inherits a folder": ("inherits: ../\n", "found a directory, expected a YAML file; name a file in it"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_FILES)
def test_a_wrong_file_is_answered_with_one_sentence(case: str, tmp_path: Path) -> None:
    text, expected = WRONG_FILES[case]
    with pytest.raises(HardwareError) as caught:
        load_hardware(write(tmp_path, "t.yaml", text))
    check_sentence(str(caught.value), "t.yaml: ", expected)


def check_sentence(message: str, start: str, expected: str) -> None:
    assert message.startswith(start)
    assert expected in message
    assert "\n" not in message
    assert "expected" in message
    assert ";" in message  # what to do next
    assert len(message) < 440


def test_there_are_enough_cases() -> None:
    assert len(WRONG_VALUES) + len(WRONG_FILES) >= 100


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"inherits: toy\nname: \xff\n", "t.yaml: byte 20 is not UTF-8, expected UTF-8 text; save it so"),
        ("inherits: toy\n".encode("utf-16"), "t.yaml: byte 0 is not UTF-8, expected UTF-8 text"),
        (b"\x00\x00\x00", "t.yaml: not YAML"),
        (b"a: " + b"x" * 1_000_001, "t.yaml: found more than 1000000 bytes, expected fewer; check the path"),
        (b"\x7fELF\x02\x01\x01", "t.yaml: not YAML"),
    ],
)
def test_wrong_bytes(data: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_bytes(data)
    with pytest.raises(HardwareError) as caught:
        load_hardware(path)
    check_sentence(str(caught.value), "t.yaml: ", expected)


def test_directory_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match="found a directory, expected a YAML file; name a file in it"):
        load_hardware(tmp_path)
    with pytest.raises(HardwareError, match=r"lost\.yaml: file not found, expected a YAML file; check the path"):
        load_hardware(tmp_path / "lost.yaml")
    with pytest.raises(HardwareError, match=r"cannot be read \(embedded null byte\)"):
        load_hardware("a\0b.yaml")
    with pytest.raises(HardwareError, match="cannot be read"):
        load_hardware(write(tmp_path, "file", "") / "t.yaml")


@pytest.mark.parametrize("source", [None, 3, ["isaac"]])
def test_a_source_is_a_name_or_a_path(source: object) -> None:
    with pytest.raises(HardwareError, match=r"hardware: found .*, expected a preset's name or a path; write"):
        load_hardware(source)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "near"), [("isac", "isaac"), ("PUMA", "puma"), ("pimcomp", "pimcomp-default")])
def test_unknown_preset_proposes_the_nearest(name: str, near: str) -> None:
    expected = f"hardware '{name}': unknown, expected one of gpp-256, .*isaac, .*toy, or the path .* mean '{near}'"
    with pytest.raises(HardwareError, match=expected):
        load_hardware(name)


@pytest.mark.parametrize("name", ["", "../toy", "toy.yaml.yaml", "x" * 5000])
def test_unknown_preset_without_neighbour(name: str) -> None:
    with pytest.raises(HardwareError, match=r"unknown, expected one of|file not found") as caught:
        load_hardware(name)
    assert "did you mean" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = "inherits: toy\nchips: 0\nclock_ghz: -1\nnoc: {topology: ring}\n"
    with pytest.raises(HardwareError) as caught:
        load_hardware(write(tmp_path, "t.yaml", text))
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["clock_ghz", "chips", "noc.topology"]


def test_many_faults_are_counted(tmp_path: Path) -> None:
    text = "inherits: toy\n" + "".join(f"key_{i}: 1\n" for i in range(12))
    with pytest.raises(HardwareError, match="4 more faults; correct these first") as caught:
        load_hardware(write(tmp_path, "t.yaml", text))
    assert len(str(caught.value).splitlines()) == 9


# -- the YAML subset -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1.0), ("+2", 2.0), ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1e1", 10.0), ("1.5E-1", 0.15), ("0x10", 16.0)],
)
def test_numbers(text: str, value: float, tmp_path: Path) -> None:
    assert load_hardware(write(tmp_path, "t.yaml", f"inherits: toy\nclock_ghz: {text}\n")).clock_ghz == value


def test_byte_order_mark_crlf_and_trailing_dots(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_bytes("\ufeffinherits: toy\r\nchips: 1\r\n...\r\n".encode())
    assert load_hardware(path).name == "t"


def test_folded_text_becomes_a_line(tmp_path: Path) -> None:
    path = write(tmp_path, "t.yaml", "inherits: toy\ndescription: |\n  one\n  two  three\n\n")
    assert load_hardware(path).description == "one two three"


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=60))
def test_any_text_is_a_machine_or_a_hardware_error(text: str) -> None:
    with pytest.raises(HardwareError):
        parse_hardware(text)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_preset_with_one_changed_line_never_breaks_the_loader(data: st.DataObject) -> None:
    lines = TOY.splitlines()
    i = data.draw(st.integers(0, len(lines) - 1))
    at = data.draw(st.integers(0, len(lines[i])))
    lines[i] = lines[i][:at] + data.draw(st.text(max_size=5)) + lines[i][at + data.draw(st.integers(0, 5)) :]
    try:
        machine = parse_hardware("\n".join(lines))
    except HardwareError as error:
        assert "expected" in str(error)
    else:
        assert parse_hardware(to_yaml(machine)) == machine


# -- inheritance ---------------------------------------------------------------------------------------------


def test_a_variant_states_only_what_differs(tmp_path: Path) -> None:
    path = write(tmp_path, "wide.yaml", "inherits: isaac\ncrossbar: {rows: 256}\n")
    wide, isaac = load_hardware(path), load_hardware("isaac")
    assert (wide.name, wide.crossbar.rows, wide.crossbar.cols) == ("wide", 256, 128)
    assert wide.core == isaac.core
    assert wide.source == isaac.source


def test_a_variant_of_a_variant_with_relative_paths(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, "a.yaml", "inherits: toy\nname: first\nclock_ghz: 2\nchip: {core_rows: 3}\n")
    path = write(tmp_path / "sub", "b.yaml", "inherits: ../a.yaml\nchip: {core_cols: 5}\n")
    machine = load_hardware(str(path))
    assert (machine.name, machine.clock_ghz, machine.total_cores) == ("b", 2.0, 15)


def test_null_takes_an_inherited_key_away(tmp_path: Path) -> None:
    path = write(tmp_path, "t.yaml", "inherits: puma\nchip_link: null\nchip: {cores: null}\n")
    machine = load_hardware(path)
    assert machine.chip_link is None
    assert machine.total_cores == 144


def test_a_ring_of_files(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "inherits: b.yaml\n")
    write(tmp_path, "b.yaml", "inherits: ./c.yaml\n")
    write(tmp_path, "c.yaml", "inherits: a.yaml\n")
    with pytest.raises(HardwareError, match=r"leads back to itself \(a.yaml -> b.yaml -> c.yaml -> a.yaml\)"):
        load_hardware(tmp_path / "a.yaml")


def test_a_ladder_of_files(tmp_path: Path) -> None:
    write(tmp_path, "0.yaml", TOY)
    for i in range(1, 12):
        write(tmp_path, f"{i}.yaml", f"inherits: {i - 1}.yaml\nclock_ghz: {i}\n")
    assert load_hardware(tmp_path / "8.yaml").clock_ghz == 8
    with pytest.raises(HardwareError, match="found more than 8 levels, expected fewer; merge some files"):
        load_hardware(tmp_path / "11.yaml")


def test_a_preset_and_a_file_of_its_name_are_different(tmp_path: Path) -> None:
    path = write(tmp_path, "toy.yaml", "inherits: toy\nclock_ghz: 3\n")
    assert load_hardware(path).clock_ghz == 3
    assert load_hardware("toy").clock_ghz == 1


def test_text_may_inherit_a_preset() -> None:
    assert parse_hardware("inherits: isaac\nname: mine\n").name == "mine"


# -- overrides -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [
        {"core.crossbars": 64, "noc.topology": "bus", "crossbar.pipelined": False},
        {"core.crossbars": "64", "noc.topology": "bus", "crossbar.pipelined": "false"},
        {"core.crossbars": np.int64(64), "noc.topology": "bus", "crossbar.pipelined": False},
        ["core.crossbars=64", " noc.topology = bus ", "crossbar.pipelined=false"],
    ],
)
def test_overrides(overrides: dict[str, object] | list[str]) -> None:
    machine = load_hardware("toy", overrides)  # type: ignore[arg-type]
    assert (machine.core.crossbars, machine.noc.topology, machine.crossbar.pipelined) == (64, "bus", False)
    assert machine.name == "toy"
    assert type(machine.core.crossbars) is int
    assert load_hardware("toy").core.crossbars == 8


def test_one_override_as_text_and_null() -> None:
    assert load_hardware("toy", "chip.core_rows=4").total_cores == 8
    assert load_hardware("isaac", ["chip_link=null"]).chip_link is None


def test_an_override_may_add_a_part() -> None:
    link = {"bytes_per_cycle": 4, "latency_cycles": 9, "energy_pj_per_byte": 1, "static_mw": 0}
    machine = load_hardware("toy", {"chips": 2, **{f"chip_link.{k}": v for k, v in link.items()}})
    assert machine.chip_link is not None
    assert machine.chip_link.bytes_per_cycle == 4


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"core.crossbars": -3}, "override 'core.crossbars=-3': core.crossbars: found -3, expected a positive integer"),
        ({"core.crosbars": 3}, "override 'core.crosbars=3': core.crosbars: unknown key (did you mean 'crossbars'?)"),
        (["core.crossbars=many"], "override 'core.crossbars=many': core.crossbars: found 'many' (text), expected"),
        (["core.crossbars"], "override: found 'core.crossbars' (text), expected key=value; write e.g. core"),
        (["=3"], "override: found '=3' (text), expected key=value"),
        ([3], "override: found 3, expected key=value"),
        (["a..b=3"], "override: found the key 'a..b', expected a path of keys; write e.g. core.crossbars=64"),
        ({3: 3}, "override: found the key 3, expected a path of keys"),
        (["inherits=isaac"], "override: found the key 'inherits', expected a path of keys"),
        (["noc={topology: bus}"], "override 'noc={topology: bus}': found '{topology: bus}', expected one number or"),
        (["noc=[1"], "override 'noc=[1': line 1: not YAML"),
        (["noc=3"], "override 'noc=3': noc: found 3, expected a mapping with topology, flit_bytes"),
        (["clock_ghz.x=3"], "clock_ghz: found a mapping with 1 key, expected a positive number of gigahertz"),
        (["noc=null"], "override 'noc=null': noc: missing, expected a mapping with topology, flit_bytes"),
        (["chip.cores=5"], "toy.yaml with overrides: chip: found 5, expected cores of at most core_rows"),
        (["chips=3"], "toy.yaml with overrides: found 3, expected a chip_link where chips > 1"),
        (["kind=vram"], "override 'kind=vram': kind: found 'vram' (text), expected one of crossbar"),
    ],
)
def test_wrong_overrides(overrides: object, expected: str) -> None:
    with pytest.raises(HardwareError) as caught:
        load_hardware("toy", overrides)  # type: ignore[arg-type]
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


# -- printing ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(
    name=st.text(min_size=1, max_size=30).filter(lambda t: t.strip() and " ".join(t.split()).isprintable()),
    energy=st.floats(0, 1e12),
)
def test_round_trip_of_odd_names_and_energies(name: str, energy: float) -> None:
    machine = load_hardware("toy", {"crossbar.adc_energy_pj": energy})
    text = to_yaml(machine).replace("name: toy", f"name: {json.dumps(name, ensure_ascii=False)}", 1)
    named = parse_hardware(text)
    assert named.name == " ".join(name.split())
    assert named.crossbar.adc_energy_pj == energy
    assert parse_hardware(to_yaml(named)) == named


@pytest.mark.parametrize("name", ["1e9", "010", "true", "no", "1:30", "null", "~", "0x1F", "- a", "2016-06-18", "a: b"])
def test_names_that_look_like_something_else_are_quoted(name: str) -> None:
    named = parse_hardware(to_yaml(load_hardware("toy")).replace("name: toy", f"name: {name!r}", 1))
    assert parse_hardware(to_yaml(named)).name == name


def test_to_yaml_is_deterministic_and_in_the_order_of_the_record() -> None:
    text = to_yaml(load_hardware("isaac"))
    assert text == to_yaml(load_hardware("isaac"))
    assert list(yaml.safe_load(text)) == [
        "name", "kind", "description", "source", "clock_ghz", "chips", "chip", "noc", "global_memory", "chip_link",
        "core", "crossbar", "precision",
    ]  # fmt: skip


def test_json_schema_names_every_key_of_the_presets() -> None:
    schema = json_schema()
    for name in preset_names():
        kind = schema["anyOf"][list(KINDS).index(load_hardware(name).kind)]
        assert kind["additionalProperties"] is False
        check_keys(yaml.safe_load(preset_text(name)), kind, schema["$defs"])
    json.dumps(schema)
    assert schema["$defs"]["LocalMemory"]["properties"]["size_bytes"] == {
        "examples": [65536], "maximum": 2**44, "minimum": 1, "title": "Size Bytes", "type": "integer",
    }  # fmt: skip


def check_keys(values: dict[str, object], schema: dict[str, object], parts: dict[str, dict[str, object]]) -> None:
    for key, value in values.items():
        entry = schema["properties"][key]  # type: ignore[index]
        if isinstance(value, dict):
            reference = entry.get("$ref") or entry["anyOf"][0]["$ref"]
            check_keys(value, parts[reference.rsplit("/", 1)[1]], parts)

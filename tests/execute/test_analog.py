"""The analog model against a slow twin, against exact integers where nothing is lost, and against closed forms of its noise."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles.analog_crossbar import AnalogCrossbar
from targets.conformance import compiled, machine
from targets.crossbar.networks import codes, quantised

from pimloom import api
from pimloom.errors import ModelError, UsageError
from pimloom.execute import Analog, Interpreter
from pimloom.execute.analog import AnalogArrays, converter
from pimloom.execute.analog_run import output_error
from pimloom.execute.slices import cell_planes, input_slices, weight_bits
from pimloom.hardware import CrossbarHardware, load_hardware, preset_names
from pimloom.ir.evaluate import evaluate
from pimloom.ir.types import Quant, TensorType
from pimloom.program import Groups, Matrix, Program

Array = np.ndarray[Any, np.dtype[Any]]
LOSSLESS = ("isaac", "puma", "isscc23-16", "toy")
RNG_SEEDS = st.integers(0, 2**32 - 1)


def with_crossbar(preset: str = "toy", **changes: Any) -> CrossbarHardware:
    hardware = load_hardware(preset)
    return dataclasses.replace(hardware, crossbar=dataclasses.replace(hardware.crossbar, **changes))


def one_group(hardware: CrossbarHardware, weights: Array, weight: TensorType, n_groups: int = 1) -> Program:
    """As much of a program as the arrays look at: copies of one matrix, for one node."""
    full = {"row_start": 0, "row_stop": weights.shape[0], "column_start": 0, "column_stop": weights.shape[1]}
    fields = {name: np.full(n_groups, full.get(name, 0), np.int32) for name in Groups.__dataclass_fields__}
    graph = SimpleNamespace(types={"w": weight}, nodes=[SimpleNamespace(name="layer")])
    return cast("Program", SimpleNamespace(hardware=hardware, graph=graph, groups=Groups(**fields), matrices=(Matrix("w", weights),)))


def weight_type(dtype: str, zero: int = 0) -> TensorType:
    return TensorType(dtype, (1, 1), Quant((1.0,), zero_point=zero))


def extreme(rng: np.random.Generator, low: int, high: int, shape: tuple[int, ...]) -> Array:
    """Integers from low to high; some arrays at random, some only the ends, some all alike."""
    kind = rng.integers(4)
    if kind == 0:
        return np.full(shape, rng.choice([low, high]), np.int64)
    return rng.choice([low, high], shape) if kind == 1 else rng.integers(low, high + 1, shape)


@st.composite
def cases(draw: st.DrawFn) -> tuple[CrossbarHardware, Array, TensorType, Array, int]:
    """A machine, weights, their type, codes[windows, rows] and their zero point."""
    rows = draw(st.integers(1, 12))
    hardware = with_crossbar(
        rows=16, cols=64, dac_count=draw(st.integers(1, 16)), cell_bits=draw(st.sampled_from((1, 2, 3, 4, 5, 8, 16))),
        dac_bits=draw(st.sampled_from((1, 2, 3, 4, 7, 8, 16))),
        signed=draw(st.sampled_from(("offset", "flipped", "differential", "logical"))),
        adc_bits=32,
    )  # fmt: skip
    assume(hardware.crossbar.largest_column_sum < 2**32)
    rng = np.random.default_rng(draw(RNG_SEEDS))
    dtype, zero = draw(st.sampled_from((("int8", 0), ("int16", 0), ("uint8", 0), ("uint8", 131), ("int8", -7))))
    info = np.iinfo(dtype)
    weights = extreme(rng, info.min, info.max, (rows, draw(st.integers(1, 4)))) - zero
    code_type = draw(st.sampled_from(("int8", "uint8", "int16", "uint16")))
    limits = np.iinfo(code_type)
    inputs = extreme(rng, limits.min, limits.max, (draw(st.integers(1, 3)), rows)).astype(code_type)
    return hardware, weights, weight_type(dtype, zero), inputs, draw(st.sampled_from((0, int(limits.min), int(limits.max), 5)))


def twin(hardware: CrossbarHardware, weights: Array, weight: TensorType, analog: Analog, arrays: AnalogArrays | None = None) -> Any:
    """The slow twin of the one group; with the conductances of `arrays` if given."""
    slow = AnalogCrossbar(
        hardware.crossbar, weights.tolist(), weight_bits(weight), weights.min() < 0 or cell_planes(weight, hardware.crossbar).bias > 0,
        converter(hardware.crossbar, analog).bits, analog.adc_range,
    )  # fmt: skip
    if arrays is not None:
        cells = arrays._columns(0).cells.reshape(*weights.shape, -1)
        slow.cell = lambda row, column, plane, _: Fraction(float(cells[row, column, plane]))
    return slow


def twin_sums(slow: Any, inputs: Array, zero: int) -> Array:
    bits, is_signed = 8 * inputs.dtype.itemsize, inputs.dtype.kind == "i"
    return np.array([slow.multiply(window, bits, is_signed=is_signed, zero=zero) for window in inputs.tolist()], np.int64)


def exact_sums(inputs: Array, zero: int, weights: Array) -> Array:
    return (inputs.astype(np.int64) - zero) @ weights


# -- without loss --------------------------------------------------------------------------------------------------


@given(cases())
@settings(deadline=None, max_examples=300)
def test_enough_bits_and_no_noise_give_the_exact_sums(case: tuple[CrossbarHardware, Array, TensorType, Array, int]) -> None:
    hardware, weights, weight, inputs, zero = case
    arrays = AnalogArrays(one_group(hardware, weights, weight), Analog())
    assert np.array_equal(arrays.multiply(0, 0, inputs, zero), exact_sums(inputs, zero, weights))
    (load,) = arrays.loads()
    assert load.clipped == 0
    assert 0 <= load.peak <= 1


@pytest.mark.parametrize("preset", LOSSLESS)
@pytest.mark.parametrize("bits", [8, 16])
def test_presets_whose_adcs_have_bits_enough_are_exact(preset: str, bits: int) -> None:
    """At the bits of the preset, full arrays, extremes included; one bit less is too few for the worst case."""
    hardware, dtype = load_hardware(preset), f"int{bits}"
    info, rng = np.iinfo(dtype), np.random.default_rng(bits)
    for _ in range(8):
        weights = extreme(rng, info.min, info.max, (hardware.crossbar.rows, 5))
        inputs = extreme(rng, info.min, info.max, (2, hardware.crossbar.rows)).astype(dtype)
        arrays = AnalogArrays(one_group(hardware, weights, weight_type(dtype)), Analog())
        assert np.array_equal(arrays.multiply(0, 0, inputs, 3), exact_sums(inputs, 3, weights))
    adc = converter(hardware.crossbar, Analog())
    assert (adc.step, adc.top) == (1.0, hardware.crossbar.largest_column_sum)
    assert converter(hardware.crossbar, Analog(adc_bits=hardware.crossbar.adc_bits - 1)).step > 1


def test_presets_whose_adcs_lose_are_known() -> None:
    found = {name: converter(load_hardware(name).crossbar, Analog()).step for name in preset_names("crossbar")}
    assert {name for name, step in found.items() if step == 1.0} == set(LOSSLESS)
    assert found["pimcomp-default"] == 384 / 255


def test_flipping_halves_the_largest_sum() -> None:
    isaac = load_hardware("isaac").crossbar
    assert isaac.largest_column_sum == 192
    assert dataclasses.replace(isaac, signed="offset").largest_column_sum == 384
    for signed, peak in (("flipped", 0.0), ("offset", 1.0)):
        hardware = with_crossbar("isaac", signed=signed, adc_bits=10)
        arrays = AnalogArrays(one_group(hardware, np.full((128, 1), 127), weight_type("int8")), Analog())
        arrays.multiply(0, 0, np.full((1, 128), -1, np.int8), 0)  # all input bits set, all cells full
        assert arrays.loads()[0].peak == peak


@pytest.mark.parametrize(
    "name", ["tiny_cnn", "tiny_transformer", "grouped", "asymmetric pads", "dilated", "squeeze excite", "three images"]
)
@pytest.mark.parametrize("on", ["toy", "isaac", "pimcomp-default"])
def test_programs_without_loss_give_the_meaning_of_the_graph(name: str, on: str) -> None:
    graph, hardware = quantised(name), machine(on)
    interpreter = Interpreter(compiled(graph, hardware), Analog(adc_bits=16))
    for seed in (0, 1):
        inputs = codes(graph, seed)
        executed, meaning = interpreter.run(inputs), evaluate(graph, inputs)
        assert all(np.array_equal(executed[v], meaning[v]) for v in graph.outputs)
    if name == "tiny_cnn":
        assert {load.node for load in interpreter.loads()} == {n.name for n in graph.nodes if n.op in ("Conv", "Linear")}


# -- with loss: the twin --------------------------------------------------------------------------------------------


@given(cases(), st.integers(1, 14), st.floats(0.01, 1.0), st.sampled_from((0.0, 0.05, 0.5)))
@settings(deadline=None, max_examples=200)
def test_few_bits_narrow_ranges_and_varying_cells_equal_the_twin(
    case: tuple[CrossbarHardware, Array, TensorType, Array, int], adc_bits: int, adc_range: float, cell_noise: float
) -> None:
    hardware, weights, weight, inputs, zero = case
    analog = Analog(adc_bits=adc_bits, adc_range=adc_range, cell_noise=cell_noise, seed=3)
    arrays = AnalogArrays(one_group(hardware, weights, weight), analog)
    slow = twin(hardware, weights, weight, analog, arrays if cell_noise else None)
    assert np.array_equal(arrays.multiply(0, 0, inputs, zero), twin_sums(slow, inputs, zero))
    (load,) = arrays.loads()
    assert (load.conversions, load.clipped) == (slow.conversions, slow.clipped)


def test_a_narrow_range_clips_and_a_wide_one_does_not() -> None:
    rng = np.random.default_rng(0)
    weights, inputs = rng.integers(-128, 128, (32, 6)), rng.integers(-128, 128, (4, 32)).astype(np.int8)
    program = one_group(load_hardware("toy"), weights, weight_type("int8"))
    wide, narrow = (AnalogArrays(program, Analog(adc_range=share)) for share in (1.0, 0.2))
    for arrays in (wide, narrow):
        arrays.multiply(0, 0, inputs, 0)
    assert wide.loads()[0].clipped_share == 0
    assert narrow.loads()[0].clipped_share > 0.1
    assert narrow.loads()[0].peak > 1 > wide.loads()[0].peak


def test_more_bits_are_never_worse_on_average() -> None:
    rng = np.random.default_rng(1)
    samples = [(rng.integers(-128, 128, (32, 8)), rng.integers(-128, 128, (8, 32)).astype(np.int8)) for _ in range(12)]
    errors: list[float] = []
    for bits in range(3, 10):
        found = [
            AnalogArrays(one_group(load_hardware("toy"), w, weight_type("int8")), Analog(adc_bits=bits)).multiply(0, 0, x, 0)
            - exact_sums(x, 0, w)
            for w, x in samples
        ]
        errors.append(float(np.sqrt(np.mean(np.square(found)))))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0 < errors[-2]


# -- noise ----------------------------------------------------------------------------------------------------------


def test_conductances_are_lognormal_around_their_level() -> None:
    weights = np.random.default_rng(0).integers(-128, 128, (32, 800))
    program = one_group(load_hardware("toy"), weights, weight_type("int8"), n_groups=2)
    levels = AnalogArrays(program, Analog())._columns(0).cells.astype(np.float64)
    arrays = AnalogArrays(program, Analog(cell_noise=0.2, seed=1))
    cells = arrays._columns(0).cells.astype(np.float64)
    assert np.array_equal(cells[levels == 0], np.zeros(np.count_nonzero(levels == 0)))
    theta = np.log(cells[levels > 0] / levels[levels > 0])
    assert theta.std() == pytest.approx(0.2, rel=0.02)
    assert abs(theta.mean()) < 0.005
    assert abs(np.corrcoef(theta, levels[levels > 0])[0, 1]) < 0.02
    other = np.log(arrays._columns(1).cells[levels > 0] / levels[levels > 0])  # a copy of the weights in other cells
    assert abs(np.corrcoef(theta, other)[0, 1]) < 0.02


def test_sums_of_varying_cells_do_not_depend_on_the_order_of_addition() -> None:
    weights = np.random.default_rng(0).integers(-(2**15), 2**15, (128, 40))
    program = one_group(load_hardware("isaac"), weights, weight_type("int16"))
    cells = AnalogArrays(program, Analog(cell_noise=0.3))._columns(0).cells
    assert cells.dtype == np.float32
    forward, backward = (np.add.accumulate(rows, axis=0, dtype=np.float32)[-1] for rows in (cells, cells[::-1]))
    assert np.array_equal(forward, backward)
    assert np.array_equal(forward.astype(np.float64), cells.astype(np.float64).sum(axis=0))


def test_read_noise_has_the_variance_it_should() -> None:
    """Sums in the middle of the range, so that nothing is clipped: the weights of slices and planes decide the variance."""
    hardware = load_hardware("toy")
    weights = np.full((32, 64), 8 * 16 + 8 - 128)  # both cells at half their levels
    inputs = np.full((256, 32), 127, np.int8)
    inputs[:, ::2] = -128
    program = one_group(hardware, weights, weight_type("int8"))
    sigma = 0.7
    found = AnalogArrays(program, Analog(read_noise_lsb=sigma, seed=5)).multiply(0, 0, inputs, 0) - exact_sums(inputs, 0, weights)
    per_conversion = sigma**2 + 1 / 12  # rounding to whole codes adds that of a uniform distribution
    expected = per_conversion * sum(4.0**k for k in range(8)) * sum(4.0 ** (4 * p) for p in range(2))
    assert found.var() == pytest.approx(expected, rel=0.05)
    assert abs(found.mean()) < 4 * math.sqrt(expected / found.size)


def test_codes_are_never_negative() -> None:
    """Nothing driven: of the noise around 0 only what is above is converted, so plain unsigned codes only add up to more."""
    program = one_group(load_hardware("toy"), np.full((32, 64), 200), weight_type("uint8"))
    found = AnalogArrays(program, Analog(read_noise_lsb=1.0)).multiply(0, 0, np.zeros((16, 32), np.uint8), 0)
    assert (found >= 0).all()
    above = sum(0.5 * math.erfc((k + 0.5) / math.sqrt(2)) for k in range(8))  # mean of max(0, round(g))
    assert found.mean() == pytest.approx(above * 255 * 17, rel=0.05)


def test_the_seed_decides_all_noise_and_samples_differ_in_read_noise_only() -> None:
    graph = quantised("tiny_cnn")
    program, inputs = compiled(graph, machine("toy")), codes(graph)

    def outputs(n: int, **conditions: Any) -> list[Array]:
        interpreter = Interpreter(program, Analog(**conditions))
        return [interpreter.run(inputs)[graph.outputs[0]] for _ in range(n)]

    for conditions in ({"cell_noise": 0.1}, {"read_noise_lsb": 1.0}, {"cell_noise": 0.05, "read_noise_lsb": 0.5, "adc_bits": 7}):
        first, again, other = (outputs(2, seed=seed, **conditions) for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
        assert np.array_equal(first[0], first[1]) == ("read_noise_lsb" not in conditions)


def test_more_noise_is_worse() -> None:
    compiled_ = api.compile("tiny_cnn", "toy")
    for field, values in (("cell_noise", (0.0, 0.02, 0.3)), ("read_noise_lsb", (0.0, 0.5, 8.0))):
        errors = [compiled_.execute_analog(Analog(**{field: value})).errors[0].rms_error for value in values]
        assert errors[0] == 0.0
        assert errors == sorted(errors), field


def test_conversions_in_pieces_give_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    weights, inputs = rng.integers(-128, 128, (32, 13)), rng.integers(-128, 128, (3, 32)).astype(np.int8)
    found: list[Array] = []
    for most in (1 << 18, 100, 1):
        monkeypatch.setattr("pimloom.execute.analog._CHUNK", most)
        arrays = AnalogArrays(one_group(load_hardware("toy"), weights, weight_type("int8")), Analog(adc_bits=6, cell_noise=0.1))
        found.append(arrays.multiply(0, 0, inputs, 0))
        assert arrays.loads()[0].conversions == 3 * 8 * 13 * 2
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


# -- what a run tells ------------------------------------------------------------------------------------------------


def test_figures_of_an_output_by_hand() -> None:
    exact = np.array([[[1.0, 2.0], [4.0, 3.0]], [[0.0, 1.0], [1.0, 0.0]]])
    found = exact.copy()
    found[0, 0] = (3.0, 2.0)
    error = output_error("y", exact, found)
    assert (error.largest, error.max_abs_error, error.rms_error, error.top1_agreement) == (4.0, 2.0, math.sqrt(4 / 8), 3 / 4)
    assert error.snr_db == pytest.approx(10 * math.log10(32 / 4))
    same = output_error("y", exact, exact)
    assert (same.max_abs_error, same.snr_db, same.top1_agreement) == (0.0, math.inf, 1.0)
    assert output_error("y", np.zeros((1, 2, 2)), np.ones((1, 2, 2))).snr_db == -math.inf
    assert output_error("image", np.zeros((1, 1, 3, 4, 4)), np.ones((1, 1, 3, 4, 4))).top1_agreement is None


def test_a_run_compares_each_sample_with_the_exact_one() -> None:
    compiled_ = api.compile("tiny_cnn", "toy")
    rng = np.random.default_rng(0)
    name = compiled_.program.graph.inputs[0]
    samples = [{name: rng.standard_normal(compiled_.program.graph.types[name].shape).astype(np.float32)} for _ in range(3)]
    run = compiled_.execute_analog(Analog(adc_bits=7, seed=1), samples)
    value = compiled_.program.graph.outputs[0]
    exact = np.stack([compiled_.execute(sample)[value] for sample in samples])
    found = np.stack([output[value] for output in run.outputs])
    assert run.errors[0].max_abs_error == np.abs(exact - found).max() > 0
    assert np.array_equal(found[0], compiled_.execute(samples[0], analog=Analog(adc_bits=7, seed=1))[value])
    alone = compiled_.execute_analog(Analog(adc_bits=7, seed=1), samples[:1])
    assert [load.conversions for load in run.loads] == [3 * load.conversions for load in alone.loads]


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("adc_bits", -1, "a whole number from 0 to 32"),
        ("adc_bits", 33, "a whole number from 0 to 32"),
        ("adc_bits", 8.5, "a whole number from 0 to 32"),
        ("seed", -1, "a whole number from 0 to 4294967295"),
        ("adc_range", 0, "a share above 0"),
        ("adc_range", 1.01, "a number from 0 to 1"),
        ("adc_range", "1", "a number from 0 to 1"),
        ("cell_noise", -0.1, "a number from 0 to 2"),
        ("cell_noise", math.nan, "a number from 0 to 2"),
        ("read_noise_lsb", math.inf, r"a number from 0 to 1e\+06"),
    ],
)
def test_conditions_out_of_range_are_refused(field: str, value: Any, expected: str) -> None:
    with pytest.raises(UsageError, match=rf"^analog: {field}: .* found, {expected} expected"):
        Analog(**{field: value})


def test_machines_without_crossbars_are_refused() -> None:
    other = cast("Program", SimpleNamespace(hardware=SimpleNamespace(name="newton", kind="dram")))
    with pytest.raises(UsageError, match="analog: machine 'newton' of kind 'dram' found, one of kind 'crossbar' expected"):
        AnalogArrays(other, Analog())


def test_weights_that_do_not_fit_their_cells_are_refused() -> None:
    weight = weight_type("int16", -5)  # centred, these codes need 17 bits
    arrays = AnalogArrays(one_group(load_hardware("toy"), np.full((2, 2), 2**15), weight), Analog())
    with pytest.raises(ModelError, match="analog: weights of 32768 to 32768 found, -32768 to 32767 fit the cells of their type"):
        arrays.multiply(0, 0, np.zeros((1, 2), np.int8), 0)


def test_slices_by_hand() -> None:
    one = input_slices("int8", 1)
    assert (one.weights.tolist(), one.offset) == ([1, 2, 4, 8, 16, 32, 64, -128], 0)
    assert one.cut(np.array([[-128, 3]]))[:, 0].tolist() == [[0, 1], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0], [1, 0]]
    four = input_slices("int8", 4)
    assert (four.weights.tolist(), four.offset) == ([1, 16], 128)
    assert four.cut(np.array([[-128, 3]]))[:, 0].tolist() == [[0, 3], [0, 8]]
    assert (input_slices("uint8", 4).weights.tolist(), input_slices("uint8", 4).offset) == ([1, 16], 0)
    offset = cell_planes(weight_type("int8"), load_hardware("toy").crossbar)
    assert offset.cut(np.array([[-128, 1]]))[0].tolist() == [[0, 0], [1, 8]]
    differential = cell_planes(weight_type("int8"), with_crossbar(signed="differential", cols=64).crossbar)
    assert differential.cut(np.array([[-128, 17]]))[0].tolist() == [[0, 0, 0, 8], [1, 1, 0, 0]]

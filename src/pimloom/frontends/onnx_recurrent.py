"""LSTM, GRU and RNN unrolled into matrix products, sums and activations; all steps share the weight constants.

Letters: T steps, B batch, I input width, H hidden width, G gates (4, 3, 1), D directions. The products of all inputs
with the input weights are one MatMul over the whole sequence; each step adds the product of the hidden state. Values
keep the shape [1, B, width] so that a step is joined to the sequence without reshaping:

    x [T,B,I] @ W' [I,G*H] + b  ->  split into T parts      part_t + h_{t-1} @ R' [H,G*H]  ->  split into G gates
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from pimloom.frontends.onnx_call import Call, Normaliser, Value
from pimloom.frontends.onnx_shapes import concat, slice_axis, split_equal, split_sizes

MAX_STEPS = 20_000
"""Longest sequence that is unrolled."""

_PLAIN_ACTIVATIONS = ("Relu", "Tanh", "Sigmoid", "Softsign", "Softplus")
_ALPHA_ACTIVATIONS: Mapping[str, float] = {"LeakyRelu": 0.01, "ThresholdedRelu": 1.0, "Elu": 1.0}

Activation = Callable[[str], str]


@final
@dataclass(frozen=True, slots=True)
class _Cell:
    """One direction of one recurrent node.

    Attributes:
        call: the node.
        width: H.
        recurrent: R' [H, G*H]; for a GRU that resets before the product, R' of the gates z, r and R' of the candidate.
        recurrent_bias: [H], the candidate's bias of a GRU that resets after the product; may be absent.
        peepholes: the LSTM's weights on the cell state for gates i, o, f; may be absent.
        activations: in ONNX's order for the op.
        operand: what products take of the hidden state: itself, or its rounding to codes.
    """

    call: Call
    width: int
    recurrent: tuple[str, ...]
    recurrent_bias: str
    peepholes: tuple[str, ...]
    activations: tuple[Activation, ...]
    operand: Activation

    def clipped(self, value: str) -> str:
        """The argument of an activation, clipped where the node says so."""
        bound = self.call.attribute("clip")
        return self.call.emit("Clip", value, min=-float(bound), max=float(bound)) if bound else value

    def plus_hidden(self, part: str, hidden: str) -> str:
        """`part + h R'`; an absent hidden state is zero."""
        return self.call.emit("Add", part, self.product(hidden, 0)) if hidden else part

    def product(self, hidden: str, place: int) -> str:
        """`h R'` for one of the recurrent weights."""
        return self.call.emit("MatMul", self.operand(hidden), self.recurrent[place])


State = tuple[str, str]
"""Hidden state and cell state; the empty name is zero."""


def _lstm_step(cell: _Cell, part: str, state: State) -> State:
    call, (hidden, memory) = cell.call, state
    i, o, f, c = split_equal(call, cell.plus_hidden(part, hidden), 2, 4)
    gate, squash, out = cell.activations
    i = gate(cell.clipped(_peep(cell, i, memory, 0)))
    f = _forget(cell, f, i, memory)
    fresh = call.emit("Mul", i, squash(cell.clipped(c)))
    kept = call.emit("Mul", f, memory) if memory else ""
    memory = call.emit("Add", kept, fresh) if kept else fresh
    o = gate(cell.clipped(_peep(cell, o, memory, 1)))
    return call.emit("Mul", o, out(memory)), memory


def _forget(cell: _Cell, f: str, i: str, memory: str) -> str:
    """The forget gate, coupled to the input gate where the node says so; not computed for a zero cell state."""
    if not memory:
        return ""
    if cell.call.attribute("input_forget", 0):
        return cell.call.emit("Sub", cell.call.numbers(1.0), i)
    return cell.activations[0](cell.clipped(_peep(cell, f, memory, 2)))


def _peep(cell: _Cell, gate: str, memory: str, place: int) -> str:
    if not cell.peepholes or not memory:
        return gate
    return cell.call.emit("Add", gate, cell.call.emit("Mul", cell.peepholes[place], memory))


def _gru_step(cell: _Cell, part: str, state: State) -> State:
    call, hidden = cell.call, state[0]
    gate, squash = cell.activations
    part_zr, part_h = split_sizes(call, part, 2, (2 * cell.width, cell.width))
    hidden_zr, inner = _gru_products(cell, hidden)
    z, r = split_equal(call, _sum(call, part_zr, hidden_zr), 2, 2)
    z, r = gate(cell.clipped(z)), gate(cell.clipped(r))
    if inner:
        inner = call.emit("Mul", r, inner)
    elif hidden and len(cell.recurrent) == 2:
        inner = cell.product(call.emit("Mul", r, hidden), 1)
    fresh = squash(cell.clipped(_sum(call, part_h, inner)))
    new = call.emit("Mul", call.emit("Sub", call.numbers(1.0), z), fresh)
    return (call.emit("Add", new, call.emit("Mul", z, hidden)) if hidden else new), ""


def _gru_products(cell: _Cell, hidden: str) -> tuple[str, str]:
    """Products of the hidden state for the gates z, r and, where the reset follows the product, for the candidate."""
    if not hidden:
        return "", cell.recurrent_bias
    products = cell.product(hidden, 0)
    if len(cell.recurrent) == 2:
        return products, ""
    gates, candidate = split_sizes(cell.call, products, 2, (2 * cell.width, cell.width))
    return gates, _sum(cell.call, candidate, cell.recurrent_bias)


def _sum(call: Call, first: str, second: str) -> str:
    return call.emit("Add", first, second) if first and second else first or second


def _rnn_step(cell: _Cell, part: str, state: State) -> State:
    return cell.activations[0](cell.clipped(cell.plus_hidden(part, state[0]))), ""


@final
@dataclass(frozen=True, slots=True)
class _Kind:
    """What distinguishes LSTM, GRU and RNN: gates per cell, default activations, the step."""

    n_gates: int
    activations: tuple[str, ...]
    step: Callable[[_Cell, str, State], State]


_KINDS: Mapping[str, _Kind] = {
    "LSTM": _Kind(4, ("Sigmoid", "Tanh", "Tanh"), _lstm_step),
    "GRU": _Kind(3, ("Sigmoid", "Tanh"), _gru_step),
    "RNN": _Kind(1, ("Tanh",), _rnn_step),
}


def recurrent(call: Call, operand: Activation = lambda value: value) -> tuple[Value, ...]:
    """The unrolled form of a recurrent node; `operand` is what products take of inputs and hidden states."""
    kind = _KINDS[call.op]
    batch_first = bool(call.attribute("layout", 0))
    x = call.emit("Transpose", call.value(0), perm=(1, 0, 2)) if batch_first else call.value(0)
    _check(call, kind, x)
    directions = [_direction(call, kind, x, place, operand) for place in range(_n_directions(call))]
    steps = [call.emit("Unsqueeze", outputs, axes=(1,)) for outputs, _ in directions] if call.has_output(0) else []
    sequence = concat(call, tuple(steps), 1) if steps else ""
    finals = [concat(call, tuple(state[i] for _, state in directions), 0) if call.has_output(i + 1) else "" for i in range(2)]
    if batch_first:
        sequence = call.emit("Transpose", sequence, perm=(2, 0, 1, 3)) if sequence else ""
        finals = [call.emit("Transpose", f, perm=(1, 0, 2)) if f else "" for f in finals]
    return (sequence, *finals)


def _n_directions(call: Call) -> int:
    return 2 if call.attribute("direction", "forward") == "bidirectional" else 1


def _check(call: Call, kind: _Kind, x: str) -> None:
    """ModelError where shapes, direction or sequence lengths do not fit."""
    direction, n = call.attribute("direction", "forward"), _n_directions(call)
    if direction not in ("forward", "reverse", "bidirectional"):
        raise call.fault(f"direction is '{direction}', expected forward, reverse or bidirectional")
    if call.type_of(x).rank != 3 or call.type(1).rank != 3 or call.type(2).rank != 3:
        raise call.fault(f"x, W, R are {call.type(0)}, {call.type(1)}, {call.type(2)}; three dimensions each are expected")
    (n_steps, _, in_width), width = call.type_of(x).shape, call.shape(2)[2]
    expected = ((n, kind.n_gates * width, in_width), (n, kind.n_gates * width, width))
    if (call.shape(1), call.shape(2)) != expected:
        raise call.fault(f"W and R are {call.type(1)} and {call.type(2)}, expected shapes {list(expected[0])} and {list(expected[1])}")
    for place in (5, 6):
        if call.has(place) and call.shape(place)[-1:] != (width,):
            raise call.fault(f"initial state (input {place}) is {call.type(place)}, expected a last dimension of {width}")
    if call.has(4) and any(length != n_steps for length in call.ints(4, "the sequence lengths")):
        raise call.fault(f"sequence lengths differ from the {n_steps} steps; pad or bucket the sequences")
    if not 0 < n_steps <= MAX_STEPS:
        raise call.fault(f"{n_steps} steps, 1 to {MAX_STEPS} can be unrolled; shorten the sequence")


def _direction(call: Call, kind: _Kind, x: str, place: int, operand: Activation) -> tuple[str, State]:
    """Outputs [T,B,H] and last state of one direction."""
    width, size = call.shape(2)[2], kind.n_gates * call.shape(2)[2]
    batch_first = bool(call.attribute("layout", 0))
    backwards = call.attribute("direction", "forward") == "reverse" or place == 1
    bias, recurrent_bias = _biases(call, kind, place, size)
    peepholes: tuple[str, ...] = ()
    if call.op == "LSTM" and call.has(7):
        peepholes = split_equal(call, _squeezed(call, 7, place), 0, 3)
    recurrent: tuple[str, ...] = (_turned(call, 2, place),)
    if call.op == "GRU" and not call.attribute("linear_before_reset", 0):
        recurrent = split_sizes(call, recurrent[0], 1, (2 * width, width))
    cell = _Cell(call, width, recurrent, recurrent_bias, peepholes, _activations(call, kind, place), operand)
    products = call.emit("MatMul", operand(x), _turned(call, 1, place))
    parts = split_equal(call, _sum(call, products, bias), 0, call.type_of(x).shape[0])
    state = (_initial(call, 5, place, batch_first), _initial(call, 6, place, batch_first) if call.op == "LSTM" else "")
    outputs: list[str] = []
    for part in reversed(parts) if backwards else parts:
        state = kind.step(cell, part, state)
        outputs.append(state[0])
    return concat(call, tuple(reversed(outputs) if backwards else outputs), 0), state


def _pick(call: Call, place: int, direction: int) -> str:
    """The part [1, ...] of an input that belongs to one direction."""
    if call.shape(place)[:1] != (_n_directions(call),):
        raise call.fault(f"input {place} is {call.type(place)}, expected {_n_directions(call)} directions in its first dimension")
    return slice_axis(call, call.value(place), 0, direction, direction + 1)


def _squeezed(call: Call, place: int, direction: int) -> str:
    return call.emit("Squeeze", _pick(call, place, direction), axes=(0,))


def _turned(call: Call, place: int, direction: int) -> str:
    """The weights of one direction, transposed."""
    return call.emit("Transpose", _squeezed(call, place, direction), perm=(1, 0))


def _initial(call: Call, place: int, direction: int, batch_first: bool) -> str:
    """The initial state [1, B, H], or the empty name for zero."""
    if not call.has(place):
        return ""
    if not batch_first:
        return _pick(call, place, direction)
    state = call.emit("Transpose", call.value(place), perm=(1, 0, 2))
    return slice_axis(call, state, 0, direction, direction + 1)


def _biases(call: Call, kind: _Kind, place: int, size: int) -> tuple[str, str]:
    """The bias of the input products, and that of the hidden products where it must stay apart (GRU)."""
    if not call.has(3):
        return "", ""
    if call.shape(3)[1:] != (2 * size,):
        raise call.fault(f"bias is {call.type(3)}, expected {2 * size} elements per direction")
    inner, outer = split_equal(call, _squeezed(call, 3, place), 0, 2)
    if call.op != "GRU" or not call.attribute("linear_before_reset", 0):
        return call.emit("Add", inner, outer), ""
    two = size // 3 * 2
    gates = call.emit("Add", slice_axis(call, inner, 0, 0, two), slice_axis(call, outer, 0, 0, two))
    return concat(call, (gates, slice_axis(call, inner, 0, two, size)), 0), slice_axis(call, outer, 0, two, size)


def _activations(call: Call, kind: _Kind, place: int) -> tuple[Activation, ...]:
    n = len(kind.activations)
    names: Any = call.attribute("activations") or kind.activations * _n_directions(call)
    if len(names) != n * _n_directions(call):
        raise call.fault(f"{len(names)} activations, expected {n * _n_directions(call)}")
    alphas, betas = _parameters(call, names, "activation_alpha"), _parameters(call, names, "activation_beta")
    rows = range(place * n, place * n + n)
    return tuple(_activation(call, str(names[i]), alphas.get(i), betas.get(i)) for i in rows)


_TAKES_ALPHA = ("affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu")
_TAKES_BETA = ("affine", "scaledtanh", "hardsigmoid")


def _parameters(call: Call, names: tuple[str, ...], attribute: str) -> dict[int, float]:
    """The listed parameters belong to those activations that take one, in order."""
    takers = _TAKES_ALPHA if attribute == "activation_alpha" else _TAKES_BETA
    places = [i for i, name in enumerate(names) if str(name).lower() in takers]
    return dict(zip(places, call.attribute(attribute) or (), strict=False))


def _activation(call: Call, name: str, alpha: float | None, beta: float | None) -> Activation:
    plain = {op.lower(): op for op in _PLAIN_ACTIVATIONS}
    if name.lower() in plain:
        return lambda value: call.emit(plain[name.lower()], value)
    for op, default in _ALPHA_ACTIVATIONS.items():
        if name.lower() == op.lower():
            return lambda value: call.emit(op, value, alpha=default if alpha is None else alpha)
    if name.lower() == "hardsigmoid":
        bend, shift = 0.2 if alpha is None else alpha, 0.5 if beta is None else beta
        return lambda value: call.emit("HardSigmoid", value, alpha=bend, beta=shift)
    if name.lower() == "affine":
        return lambda value: call.emit("Add", _scaled(call, value, alpha), call.numbers(beta or 0.0))
    if name.lower() == "scaledtanh":
        return lambda value: _scaled(call, call.emit("Tanh", _scaled(call, value, beta)), alpha)
    raise call.fault(f"activation '{name}' is not known; expected {', '.join((*_PLAIN_ACTIVATIONS, *_ALPHA_ACTIVATIONS))} or HardSigmoid")


def _scaled(call: Call, value: str, factor: float | None) -> str:
    return value if factor in (None, 1.0) else call.emit("Mul", value, call.numbers(factor))


ROWS: Mapping[str, Normaliser] = dict.fromkeys(_KINDS, recurrent)

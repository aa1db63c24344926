"""Verification finds every fault of a graph and shows the statement it belongs to."""

import pytest

from pimloom.errors import ModelError
from pimloom.ir import parse_graph, verify

GOOD = """graph good {
  input x: int8[1,2,4,4]{scale=0.5, zero=0}
  input r: float32[3]
  const w: int8[3,2,1,1]{scale=[0.1, 0.2, 0.3], zero=0, axis=0} = fill(1)
  c: int8[1,3,4,4]{scale=2.0, zero=1} = Conv(x, w) {code_low=1}
  p: int8[1,3,2,2]{scale=2.0, zero=1} = MaxPool(c) {kernel_shape=[2, 2], strides=[2, 2]}
  z: int8[1,3,4,4]{scale=9.0, zero=1} = Resize(p) {sizes=[1, 3, 4, 4], mode="linear"}
  a: int64[1,1,2,2] = ArgMax(p) {axis=1}
  s: float32[3] = Softmax(r)
  output z, a, s
}"""


def test_a_sound_graph_passes() -> None:
    verify(parse_graph(GOOD))


FAULTS = (
    (
        "s: float32[3] = Softmax",
        "s: float32[4] = Softmax",
        r"node 's' \(Softmax\): output 's' is float32\[4\], float32\[3\] expected",
    ),
    ("s: float32[3] = Softmax", "s: float64[3] = Softmax", r"output 's' is float64\[3\], float32\[3\] expected"),
    ("= Softmax(r)", "= Softmax(r) {axis=3}", r"node 's' \(Softmax\): axis 3 is out of range"),
    ("= Softmax(r)", '= Softmax(r) {axis="1"}', r"node 's' \(Softmax\): attribute 'axis' is '1', an integer expected"),
    ("= Softmax(r)", "= Softmax(r) {scale=1}", r"node 's' \(Softmax\): unknown attribute 'scale'"),
    ("= Softmax(r)", "= Softmax(r) {code_low=1}", "attribute 'code_low' bounds codes, but the output holds none"),
    ("= Softmax(r)", "= Softmin(r)", "node 's': op 'Softmin' is not known"),
    ("{code_low=1}", "{code_low=9, code_high=3}", "code_low 9 is above code_high 3"),
    (
        "c: int8[1,3,4,4]{scale=2.0",
        "c: int8[1,3,4,5]{scale=2.0",
        r"output 'c' is int8\[1,3,4,5\], shape \[1, 3, 4, 4\] expected",
    ),
    (
        "p: int8[1,3,2,2]{scale=2.0, zero=1}",
        "p: int8[1,3,2,2]{scale=2.5, zero=1}",
        r"input 'c' is int8.*scale=2.0.*output 'p' is .*equal quantisation expected, insert a Rescale",
    ),
    ("p: int8[1,3,2,2]{scale=2.0, zero=1}", "p: int8[1,3,2,2]", "equal quantisation expected"),
    ("a: int64[1,1,2,2] = ArgMax", "a: int64[1,1,2,2], b: int64[1] = ArgMax", "2 outputs found, 1 expected"),
    (
        "x: int8[1,2,4,4]{scale=0.5, zero=0}",
        "x: int8[1,2,4,4]{scale=0.5, zero=300}",
        r"value 'x' is int8\[1,2,4,4\]: zero point 300 found, a code from -128 to 127",
    ),
    (
        "{scale=[0.1, 0.2, 0.3], zero=0, axis=0}",
        "{scale=[0.1, 0.2], zero=0, axis=0}",
        "2 scales found, 3 expected along axis 0",
    ),
    (
        "{scale=[0.1, 0.2, 0.3], zero=0, axis=0}",
        "{scale=[0.1, 0.2, 0.3], zero=0, axis=4}",
        "quantisation axis 4 found, an axis of the value expected",
    ),
    ("r: float32[3]", "r: float32[3]{scale=1.0, zero=0}", "a quantisation on an element type that holds no codes"),
)


@pytest.mark.parametrize(("before", "after", "message"), FAULTS)
def test_faults_are_found(before: str, after: str, message: str) -> None:
    assert GOOD.count(before) == 1
    with pytest.raises(ModelError, match=message):
        verify(parse_graph(GOOD.replace(before, after)))


def test_all_faults_are_listed_with_their_statements() -> None:
    bad = GOOD.replace("s: float32[3] =", "s: float32[4] =").replace("zero=0}\n  input r", "zero=999}\n  input r")
    with pytest.raises(ModelError) as caught:
        verify(parse_graph(bad))
    text = str(caught.value)
    assert text.startswith("graph 'good': 2 faults\n")
    assert "value 'x'" in text
    assert "    in: s: float32[4] = Softmax(r)" in text

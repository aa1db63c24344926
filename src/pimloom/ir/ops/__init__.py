"""The op table: one file per family, one row per op. Importing this package fills the table."""

# the families are imported for their rows
from pimloom.ir.ops import binary as binary
from pimloom.ir.ops import conv as conv
from pimloom.ir.ops import elementwise as elementwise
from pimloom.ir.ops import layout as layout
from pimloom.ir.ops import linear as linear
from pimloom.ir.ops import norm as norm
from pimloom.ir.ops import pool as pool
from pimloom.ir.ops import quantise as quantise
from pimloom.ir.ops import reduce as reduce
from pimloom.ir.ops import resample as resample
from pimloom.ir.ops import select as select
from pimloom.ir.ops.pool import average_counts
from pimloom.ir.ops.table import (
    CODE_CLAMPS,
    REQUIRED,
    Array,
    Attributes,
    InputTypes,
    Op,
    Rule,
    add_rows,
    find_op,
    full_attributes,
    infer_types,
    op_names,
    op_of,
)
from pimloom.ir.ops.windows import Window, window_of

__all__ = [
    "CODE_CLAMPS", "REQUIRED", "Array", "Attributes", "InputTypes", "Op", "Rule", "Window",
    "add_rows", "average_counts", "find_op", "full_attributes", "infer_types", "op_names", "op_of", "window_of",
]  # fmt: skip

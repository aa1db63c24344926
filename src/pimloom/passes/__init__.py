"""Passes: functions from graph to graph, one file each."""

from __future__ import annotations

from pimloom.passes.absorb_quantise_nodes import AbsorbQuantiseNodes
from pimloom.passes.base import Pass, Pipeline
from pimloom.passes.calibrate import Range, Sample, calibrate, random_sample
from pimloom.passes.canonicalise_linear import CanonicaliseLinear
from pimloom.passes.compose_affine import ComposeAffine
from pimloom.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from pimloom.passes.eliminate_dead_nodes import EliminateDeadNodes
from pimloom.passes.error_bound import ErrorBound, error_bound
from pimloom.passes.fold_channel_factors import FoldBatchNorm, FoldChannelFactors
from pimloom.passes.fold_constants import FoldConstants
from pimloom.passes.fuse_activations import FuseActivations
from pimloom.passes.hoist_activations import HoistActivations
from pimloom.passes.lower_conv_transpose import LowerConvTranspose
from pimloom.passes.merge_layout import MergeLayout
from pimloom.passes.quantise import Quantise
from pimloom.passes.remove_identities import RemoveIdentities


def simplify_pipeline() -> Pipeline:
    """What makes a float graph smaller without changing what it computes (up to rounding of folded weights)."""
    return Pipeline(
        (
            RemoveIdentities(),
            FoldConstants(),
            CanonicaliseLinear(),
            FoldBatchNorm(),
            FoldChannelFactors(),
            ComposeAffine(),
            LowerConvTranspose(),
            HoistActivations(),
            MergeLayout(),
            EliminateCommonSubexpressions(),
            EliminateDeadNodes(),
        ),
        rounds=8,
    )


def default_pipeline(
    weight_bits: int = 8, activation_bits: int = 8, samples: tuple[Sample, ...] = (), seed: int = 0
) -> Pipeline:
    """From a float graph as read to the quantised graph that targets compile."""
    return Pipeline(
        (
            simplify_pipeline(),
            Quantise(weight_bits, activation_bits, samples, seed=seed),
            FuseActivations(),
            EliminateDeadNodes(),
        )
    )


__all__ = [
    "AbsorbQuantiseNodes", "CanonicaliseLinear", "ComposeAffine", "EliminateCommonSubexpressions", "EliminateDeadNodes", "ErrorBound",
    "FoldBatchNorm", "FoldChannelFactors", "FoldConstants", "FuseActivations", "HoistActivations", "LowerConvTranspose", "MergeLayout",
    "Pass", "Pipeline", "Quantise", "Range", "RemoveIdentities", "Sample",
    "calibrate", "default_pipeline", "error_bound", "random_sample", "simplify_pipeline",
]  # fmt: skip

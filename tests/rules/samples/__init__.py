"""Samples of every operator that has a rule, one file per family.

`free` counts the ids that stay free on all operands and outputs; it is written as the sum over the
axes that carry them.
"""

from __future__ import annotations

import torch
from torch._ops import OpOverload

from tests.rules.samples.attention import ATTENTION
from tests.rules.samples.by_value import BY_VALUE
from tests.rules.samples.contraction import CONTRACTION
from tests.rules.samples.convolution import CONVOLUTION
from tests.rules.samples.diagonals import DIAGONALS
from tests.rules.samples.factories import FACTORIES
from tests.rules.samples.indexing import INDEXING
from tests.rules.samples.matrices import MATRICES
from tests.rules.samples.movement import MOVEMENT
from tests.rules.samples.normalization import NORMALIZATION
from tests.rules.samples.pointwise import POINTWISE
from tests.rules.samples.reduction import REDUCTION
from tests.rules.samples.reshaping import RESHAPING
from tests.rules.samples.scattering import SCATTERING
from tests.rules.samples.spectral import SPECTRAL
from tests.rules.samples.windows import WINDOWS

aten = torch.ops.aten

SAMPLES = [
    *ATTENTION,
    *BY_VALUE,
    *CONTRACTION,
    *CONVOLUTION,
    *DIAGONALS,
    *FACTORIES,
    *INDEXING,
    *MATRICES,
    *MOVEMENT,
    *NORMALIZATION,
    *POINTWISE,
    *REDUCTION,
    *RESHAPING,
    *SCATTERING,
    *SPECTRAL,
    *WINDOWS,
]

NO_KERNEL = "there is no CPU kernel; it shares the rule of its sampled sibling"
DATA = "without data its outcome has no shape; every axis of its operands stays"
NEVER_ARRIVES = "torch turns it into another operator before a rule could see it"

UNSAMPLED: dict[OpOverload, str] = {
    aten.mm.dtype: NO_KERNEL,
    aten.addmm.dtype: NO_KERNEL,
    aten.bmm.dtype: NO_KERNEL,
    aten.baddbmm.dtype: NO_KERNEL,
    aten.convolution_overrideable.default: NO_KERNEL,
    aten._batch_norm_no_update.default: "with and without data it saves statistics of other shapes",
    aten.cudnn_batch_norm.default: NO_KERNEL,
    aten.miopen_batch_norm.default: NO_KERNEL,
    **dict.fromkeys(
        (
            aten._scaled_dot_product_flash_attention.default,
            aten._scaled_dot_product_efficient_attention.default,
            aten._scaled_dot_product_cudnn_attention.default,
            aten._scaled_dot_product_fused_attention_overrideable.default,
        ),
        NO_KERNEL,
    ),
    **dict.fromkeys(
        (
            aten.nonzero.default,
            aten.masked_select.default,
            aten._unique.default,
            aten._unique2.default,
            aten.unique_dim.default,
            aten.unique_consecutive.default,
            aten.bincount.default,
            aten.histogram.bins_tensor,
            aten.histogram.bin_ct,
        ),
        DATA,
    ),
    aten.to.device: NEVER_ARRIVES,
    aten.tensor_split.tensor_indices_or_sections: NEVER_ARRIVES,
    aten.copy.Dict_Tensor: "TorchScript's, for dicts",
    aten.sort.Tensor: "TorchScript's, for lists",
}
"""Operators with a rule and without a sample, and why."""

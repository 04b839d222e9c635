"""Knowledge distillation: a smaller model learns what the original answers."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from fxprune.errors import InputError, shown

if TYPE_CHECKING:
    from torch import Tensor

_NARROW = (torch.float16, torch.bfloat16)


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """How far a student's class scores are from a teacher's, softened by a temperature.

    T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over all leading dims. The factor
    keeps gradients of the same size whatever T is, so that the loss can be added to that of the
    labels (Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 2). No
    gradient goes to the teacher. Half precision is computed in float32.

    Args:
        student: scores (logits) of shape (..., classes).
        teacher: scores of the same shape.
        temperature: T, above 0; the higher, the more the order of unlikely classes counts.

    Returns:
        A scalar.

    Raises:
        InputError: the shapes differ or are empty, or the temperature is out of range.
    """
    for name, scores in (("student", student), ("teacher", teacher)):
        _check_scores(name, scores)
    if student.shape != teacher.shape:
        raise InputError(
            f"the student's scores have shape {tuple(student.shape)}, the teacher's"
            f" {tuple(teacher.shape)}",
            hint="compare the scores of the same classes for the same batch",
        )
    if not _is_positive(temperature):
        raise InputError(
            f"temperature is {shown(temperature)}", why="it must be a finite number above 0"
        )
    soft, target = (
        F.log_softmax((scores.float() if scores.dtype in _NARROW else scores) / temperature, -1)
        for scores in (student, teacher.detach())
    )
    total = F.kl_div(soft, target, reduction="sum", log_target=True)
    return total * (temperature**2 / math.prod(student.shape[:-1]))


def _check_scores(name: str, scores: Any) -> None:
    if not isinstance(scores, torch.Tensor) or not scores.is_floating_point():
        raise InputError(
            f"the {name}'s scores are {shown(scores)}",
            hint="pass the logits that the model returns, a floating-point tensor",
        )
    if not scores.dim() or not scores.numel():
        raise InputError(
            f"the {name}'s scores have shape {tuple(scores.shape)}",
            hint="pass scores of shape (..., classes)",
        )


def _is_positive(value: Any) -> bool:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value > 0

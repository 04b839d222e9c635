"""The distillation loss is the formula, and refuses what is no pair of scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import fxprune
from fxprune import InputError

GENERATOR = torch.Generator().manual_seed(0)
S, T = (torch.randn(3, 4, 7, generator=GENERATOR, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_loss_is_the_formula(temperature: float) -> None:
    total = 0.0
    for student, teacher in zip(S.reshape(-1, 7), T.reshape(-1, 7), strict=True):
        p, q = (teacher / temperature).softmax(0), (student / temperature).softmax(0)
        total += float((p * (p / q).log()).sum())
    loss = fxprune.distillation_loss(S, T, temperature)
    assert float(loss) == pytest.approx(temperature**2 * total / 12, rel=1e-12)


def test_a_student_that_agrees_has_no_loss_and_no_gradient() -> None:
    student = T.clone().requires_grad_()
    loss = fxprune.distillation_loss(student, T)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
    assert student.grad is not None
    assert float(student.grad.abs().max()) < 1e-12


def test_gradients_go_to_the_student_alone_and_are_of_one_size() -> None:
    student, teacher = S.clone().requires_grad_(), T.clone().requires_grad_()
    fxprune.distillation_loss(student, teacher).backward()
    assert teacher.grad is None
    # for high temperatures the gradient is that of half the squared difference, by the classes
    student = S.clone().requires_grad_()
    fxprune.distillation_loss(student, T, 1e6).backward()
    centered = (S - S.mean(-1, keepdim=True)) - (T - T.mean(-1, keepdim=True))
    torch.testing.assert_close(student.grad, centered / 7 / 12, rtol=1e-4, atol=1e-8)


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = (x.to(torch.bfloat16) for x in (S, T))
    loss = fxprune.distillation_loss(student, teacher)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, fxprune.distillation_loss(student.float(), teacher.float()))


def test_a_teacher_of_another_type_is_taken() -> None:
    loss = fxprune.distillation_loss(S.float(), T.to(torch.bfloat16))
    assert torch.isfinite(loss)


def test_one_row_of_scores_is_taken() -> None:
    assert fxprune.distillation_loss(S[0, 0], T[0, 0]).shape == ()


WRONG: dict[str, tuple[tuple[Any, ...], str]] = {
    "shapes": ((S, T[:2]), r"shape \(3, 4, 7\), the teacher's \(2, 4, 7\)"),
    "classes": ((S, T[..., :1]), "the teacher's"),
    "whole numbers": ((S.long(), T), "the student's scores are"),
    "no tensor": ((S, [1.0]), "the teacher's scores are"),
    "a number": ((S.sum(), T), r"the student's scores have shape \(\)"),
    "empty": ((S[:0], T[:0]), "the student's scores have shape"),
    "cold": ((S, T, 0.0), r"temperature is 0\.0"),
    "below": ((S, T, -1.0), r"temperature is -1\.0"),
    "infinite": ((S, T, float("inf")), "temperature is inf"),
    "text": ((S, T, "4"), "temperature is '4'"),
    "bool": ((S, T, True), "temperature is True"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_pair_of_scores_is_refused(case: str) -> None:
    arguments, text = WRONG[case]
    with pytest.raises(InputError, match=text):
        fxprune.distillation_loss(*arguments)


def test_the_loss_agrees_with_torch() -> None:
    rows = S.reshape(-1, 7), T.reshape(-1, 7)
    expected = F.kl_div(
        (rows[0] / 2).log_softmax(1), (rows[1] / 2).softmax(1), reduction="batchmean"
    )
    torch.testing.assert_close(fxprune.distillation_loss(S, T, 2.0), 4 * expected)

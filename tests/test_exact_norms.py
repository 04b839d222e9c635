"""`norm="exact"`: statistics over the original's width, with zeros at removed positions."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import fxprune
from fxprune import InputError, RewriteError, VerificationError

X = torch.randn(2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Step = Callable[[Tensor], Tensor]


class Middle(nn.Module):
    """A hidden width of 8 with something that looks across it."""

    def __init__(self, step: Step | nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.step = step
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.first(x))
        y = self.step(x)
        return self.last(x * y)


class Spatial(nn.Module):
    """Eight channels in images."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.step = step
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.step(torch.sigmoid(self.first(x))))


def masked(model: Any, removed: list[int]) -> Any:
    """The same model, with zeros at removed channels before the step and after it."""

    class Masked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.sigmoid(model.first(x))
            shape = (1, -1, *[1] * (hidden.dim() - 2))
            mask = torch.ones(8, dtype=hidden.dtype)
            mask[removed] = 0
            mask = mask.view(shape)
            y = model.step(hidden * mask)
            if isinstance(model, Spatial):
                return model.last(y * mask)
            return model.last(hidden * y * mask)

    return Masked()


def random(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


class Placed(nn.Module):
    """A step of images whose places are the channels of its input."""

    def __init__(self, step: nn.Module, places: int = 1) -> None:
        super().__init__()
        self.step = step
        self.others = places - 1

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(1)
        for _ in range(self.others):
            x = torch.stack([x, 2 * x], -2)
        x = self.step(x)
        for _ in range(self.others):
            x = x[..., 1, :]
        return x.squeeze(1)


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-2)


STEPS: dict[str, Any] = {
    "LayerNorm": lambda: random(nn.LayerNorm(8, eps=0.1)),
    "LayerNorm without weights": lambda: nn.LayerNorm(8, elementwise_affine=False),
    "LayerNorm without bias": lambda: random(nn.LayerNorm(8, bias=False)),
    "layer_norm": lambda: lambda x: F.layer_norm(x, (8,), eps=0.01),
    "RMSNorm": lambda: random(nn.RMSNorm(8, eps=0.1)),
    "RMSNorm with the eps of the type": lambda: random(nn.RMSNorm(8)),
    "rms_norm": lambda: lambda x: F.rms_norm(x, (8,), eps=0.1),
    "layer_norm by position": lambda: lambda x: torch.layer_norm(x, (8,), None, None, 0.1),
    "rms_norm by position": lambda: lambda x: torch.rms_norm(x, (8,), None, 0.1),
    "rms norm by hand": lambda: rms,
    "mean": lambda: lambda x: x.mean(1, keepdim=True),
    "torch.mean": lambda: lambda x: torch.mean(x, dim=-1, keepdim=True),
    "mean of all": lambda: lambda x: x.mean(),
    "softmax": lambda: lambda x: x.softmax(-1),
    "Softmax": lambda: nn.Softmax(dim=1),
    "log_softmax": lambda: lambda x: F.log_softmax(x, dim=1),
    "softmin": lambda: lambda x: F.softmin(x, dim=1),
    "amax": lambda: lambda x: x.neg().amax(1, keepdim=True),
    "amin": lambda: lambda x: x.amin(dim=1, keepdim=True),
    "largest": lambda: lambda x: x.neg().max(),
    "var": lambda: lambda x: x.var(1, keepdim=True),
    "std": lambda: lambda x: torch.std(x, dim=1, keepdim=True),
    "var_mean": lambda: lambda x: torch.var_mean(x, dim=1, keepdim=True)[0],
    "logsumexp": lambda: lambda x: x.logsumexp(1, keepdim=True),
    "prod": lambda: lambda x: x.prod(1, keepdim=True) + 1,
    "norm": lambda: lambda x: x.norm(dim=1, keepdim=True),
    "normalize": lambda: lambda x: F.normalize(x, dim=1),
    "InstanceNorm1d": lambda: Placed(random(nn.InstanceNorm1d(1, eps=0.1, affine=True))),
    "InstanceNorm1d without weights": lambda: Placed(nn.InstanceNorm1d(1)),
    "InstanceNorm2d": lambda: Placed(nn.InstanceNorm2d(1, eps=0.1), places=2),
    "instance_norm": lambda: lambda x: F.instance_norm(x.unsqueeze(1), eps=0.1).squeeze(1),
    "AdaptiveAvgPool1d": lambda: Placed(nn.AdaptiveAvgPool1d(1)),
    "adaptive_avg_pool1d": lambda: lambda x: F.adaptive_avg_pool1d(x.unsqueeze(1), 1).squeeze(1),
    "vector_norm": lambda: lambda x: torch.linalg.vector_norm(x, dim=1, keepdim=True),
    "norm of a negative order": lambda: lambda x: x.norm(-2, 1, keepdim=True) + 1,
    "vector_norm of a negative order": lambda: (
        lambda x: torch.linalg.vector_norm(x, ord=-1, dim=1, keepdim=True) + 1
    ),
}
IMAGES: dict[str, Any] = {
    "GroupNorm": lambda: random(nn.GroupNorm(2, 8, eps=0.1)),
    "GroupNorm of one group": lambda: random(nn.GroupNorm(1, 8)),
    "GroupNorm without weights": lambda: nn.GroupNorm(2, 8, affine=False),
    "Softmax2d": nn.Softmax2d,
    "LocalResponseNorm": lambda: nn.LocalResponseNorm(3, alpha=0.5),
    "LocalResponseNorm of four": lambda: nn.LocalResponseNorm(4, alpha=2.0, beta=0.5, k=0.5),
}


class Rows(nn.Module):
    """A hidden width of 8 that is the places of five channels, with a norm over them."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 8), norm, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(torch.sigmoid(self.first(x))))


TRACKED = {"track_running_stats": True, "affine": True}


@pytest.mark.parametrize(
    "norm",
    [
        nn.GroupNorm(1, 5),
        nn.GroupNorm(5, 5, eps=0.1),
        nn.InstanceNorm1d(5, affine=True),
        nn.InstanceNorm1d(5, **TRACKED),  # type: ignore[arg-type]
        nn.BatchNorm1d(5),
    ],
    ids=str,
)
def test_norms_over_places_that_are_pruned(norm: nn.Module) -> None:
    model = Rows(random(norm)).double().eval()
    x = torch.randn(4, 5, 6, dtype=torch.float64)
    small, _ = both(model, x, [1, 4, 6])
    mask = torch.ones(8, dtype=torch.float64)
    mask[[1, 4, 6]] = 0
    expected = model.last(model.norm(torch.sigmoid(model.first(x)) * mask) * mask)
    torch.testing.assert_close(small(x), expected, rtol=1e-12, atol=1e-12)


def test_a_group_norm_over_pruned_channels_and_places_is_refused() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.mix = nn.Linear(6, 8), nn.Linear(5, 4)
            self.norm, self.back, self.last = nn.GroupNorm(1, 4), nn.Linear(4, 5), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.mix(self.first(x).mT).mT)
            return self.last(self.back(x.mT).mT)

    model, x = Mixed().double().eval(), torch.randn(4, 5, 6, dtype=torch.float64)
    plan = fxprune.plan(model, x, channels={"first": [1], "mix": [2]})
    with pytest.raises(RewriteError, match=r"norm") as caught:
        fxprune.shrink(model, plan, x, norm="exact", verify=False)
    assert "across channels and across places" in str(caught.value)


def both(model: nn.Module, x: Tensor, removed: list[int]) -> tuple[fx.GraphModule, Any]:
    plan = fxprune.plan(model, x, channels={"first": removed})
    return fxprune.shrink(model, plan, x, norm="exact"), plan


@pytest.mark.parametrize("name", STEPS)
def test_exact_statistics_are_those_of_the_zero_masked_original(name: str) -> None:
    torch.manual_seed(0)
    model = Middle(STEPS[name]()).double().eval()
    small, _ = both(model, X, [1, 4, 6])
    torch.testing.assert_close(small(X), masked(model, [1, 4, 6])(X), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", IMAGES)
def test_exact_statistics_over_channels_of_images_too(name: str) -> None:
    torch.manual_seed(0)
    model = Spatial(IMAGES[name]()).double().eval()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    small, _ = both(model, x, [0, 3, 4, 7])
    expected = masked(model, [0, 3, 4, 7])
    torch.testing.assert_close(small(x), expected(x), rtol=1e-12, atol=1e-12)
    larger = torch.randn(3, 3, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(small(larger), expected(larger), rtol=1e-12, atol=1e-12)


class Outer(nn.Module):
    """All products of two hidden widths of 8, of which a step leaves the second."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(6, 8)
        self.last = nn.Linear(8, 3)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.sigmoid(self.first(x)), torch.sigmoid(self.second(x))
        return self.last(self.step(first.unsqueeze(2) * second.unsqueeze(1)))


REDUCTIONS: dict[str, Step] = {
    "mean": lambda x: x.mean(1),
    "amax": lambda x: x.neg().amax(1),
    "std": lambda x: x.std(dim=1),
    "softmax": lambda x: (x.softmax(1) * x).sum(1),
    "vector_norm": lambda x: torch.linalg.vector_norm(x, -1, 1),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_another_axis_that_is_pruned_too_does_not_count(name: str) -> None:
    torch.manual_seed(0)
    model = Outer(REDUCTIONS[name]).double().eval()
    plan = fxprune.plan(model, X, channels={"first": [1, 4], "second": [0, 2, 5]})
    small = fxprune.shrink(model, plan, X, norm="exact")
    first, second = torch.sigmoid(model.first(X)), torch.sigmoid(model.second(X))
    first[:, [1, 4]], second[:, [0, 2, 5]] = 0.0, 0.0
    looked = model.step(first.unsqueeze(2) * second.unsqueeze(1))
    looked[:, [0, 2, 5]] = 0.0
    torch.testing.assert_close(small(X), model.last(looked), rtol=1e-12, atol=1e-12)


def test_the_two_meanings_differ() -> None:
    model = Middle(nn.LayerNorm(8)).double().eval()
    plan = fxprune.plan(model, X, channels={"first": [0, 1]})
    kept, exact = (fxprune.shrink(model, plan, X, norm=norm) for norm in ("kept", "exact"))
    assert (kept(X) - exact(X)).abs().max() > 1e-3


def test_the_worked_numbers_of_the_documentation() -> None:
    class Given(nn.Module):
        def __init__(self, step: Step) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.step = step
            nn.init.eye_(self.first.weight), nn.init.eye_(self.last.weight)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.step(self.first(x)))

    def told(step: Step, values: list[float]) -> dict[str, list[float]]:
        model, x = Given(step).double().eval(), torch.tensor([values], dtype=torch.float64)
        plan = fxprune.plan(model, x, channels={"first": [2, 3]})
        results = {n: fxprune.shrink(model, plan, x, norm=n)(x) for n in ("kept", "exact")}
        return {norm: [round(v, 3) for v in out[0, :2].tolist()] for norm, out in results.items()}

    row = [1.0, 3.0, 5.0, 7.0]
    norm = told(lambda x: F.layer_norm(x, (4,), eps=0.0), row)
    assert norm == {"kept": [-1.0, 1.0], "exact": [0.0, 1.633]}
    square = told(lambda x: F.rms_norm(x, (4,), eps=0.0), row)
    assert square == {"kept": [0.447, 1.342], "exact": [0.632, 1.897]}
    mean = told(lambda x: x.mean(1, keepdim=True).expand(-1, 4) + 0 * x, row)
    assert mean == {"kept": [2.0, 2.0], "exact": [1.0, 1.0]}
    soft = told(lambda x: x.softmax(1), [0.0, torch.tensor(3.0).log().item(), 1.0, 1.0])
    assert soft == {"kept": [0.25, 0.75], "exact": [0.167, 0.5]}


def test_the_report_tells_the_places_and_the_meaning() -> None:
    model = Middle(nn.LayerNorm(8)).double().eval()
    report = both(model, X, [1])[0].meta["fxprune"]
    assert report.meaning == fxprune.Meaning(norm="exact")
    assert [str(d.where.module) for d in report.renormalized] == ["step"]
    assert report.renormalized[0].what == "statistics over the original's width"


def test_a_result_trains_and_its_weights_keep_their_names_and_gradients() -> None:
    model = Middle(random(nn.RMSNorm(8, eps=0.1))).double()
    small, _ = both(model, X, [1, 5])
    assert dict(small.named_parameters()).keys() == dict(model.named_parameters()).keys()
    small(X).sum().backward()
    masked(model, [1, 5])(X).sum().backward()
    kept = [0, 2, 3, 4, 6, 7]
    expected = model.step.weight.grad[kept]  # type: ignore[union-attr]
    torch.testing.assert_close(small.get_parameter("step.weight").grad, expected)


def test_a_result_exports() -> None:
    model = Spatial(nn.GroupNorm(2, 8)).eval()
    x = torch.randn(2, 3, 6, 6)
    small, _ = both(model, x, [0, 5])
    program = torch.export.export(small, (x,))
    torch.testing.assert_close(program.module()(x), small(x))


@pytest.mark.parametrize("name", ["LayerNorm", "RMSNorm", "mean", "softmax", *IMAGES])
def test_a_result_runs_in_onnx(name: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    is_image = name in IMAGES
    model = (Spatial(IMAGES[name]()) if is_image else Middle(STEPS[name]())).eval()
    x = torch.randn(2, 3, 6, 6) if is_image else X.float()
    small, _ = both(model, x, [0, 3, 4, 7])
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter uses what torch deprecates
        torch.onnx.export(small, (x,), dynamo=True, verbose=False).save(file)
    session = runtime.InferenceSession(file.getvalue())
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), small(x).detach(), rtol=1e-5, atol=1e-5)


def test_a_result_that_keeps_kept_statistics_is_refuted_as_exact() -> None:
    model = Middle(nn.LayerNorm(8)).double().eval()
    plan = fxprune.plan(model, X, channels={"first": [0, 1]})
    small = fxprune.shrink(model, plan, X)
    with pytest.raises(VerificationError, match="node step differs"):
        fxprune.verify(model, small, plan, X, norm="exact")


def test_verify_takes_the_meaning_from_the_report() -> None:
    model = Middle(nn.LayerNorm(8)).double().eval()
    small, plan = both(model, X, [0, 1])
    fxprune.verify(model, small, plan, X)
    with pytest.raises(VerificationError):
        fxprune.verify(model, small, plan, X, norm="kept")


def test_a_module_is_refused_where_it_has_statistics() -> None:
    model = Middle(nn.LayerNorm(8)).double().eval()
    plan = fxprune.plan(model, X, channels={"first": [0]})
    with pytest.raises(RewriteError, match='a module cannot be emitted with norm="exact"'):
        fxprune.shrink(model, plan, X, norm="exact", emit="module")
    assert fxprune.shrink(model, plan, X, norm="exact", emit="auto").meta["fxprune"].emit == "graph"


def test_a_module_without_statistics_is_emitted() -> None:
    model = Middle(nn.ReLU()).double().eval()
    plan = fxprune.plan(model, X, channels={"first": [0]})
    small = fxprune.shrink(model, plan, X, norm="exact", emit="module")
    assert isinstance(small, Middle)


def test_an_unknown_meaning_is_refused() -> None:
    model = Middle(nn.ReLU()).double().eval()
    with pytest.raises(InputError, match=r"norm='other' is not known"):
        fxprune.shrink(model, {"first": [0]}, X, norm="other")  # type: ignore[call-overload]
    with pytest.raises(InputError, match=r"constants='keep' is not known"):
        fxprune.shrink(model, {"first": [0]}, X, constants="keep")  # type: ignore[call-overload]


def test_statistics_over_operators_of_a_lowered_node() -> None:
    torch.manual_seed(0)
    model = Middle(_wrapped).double().eval()
    small, _ = both(model, X, [2, 3])
    torch.testing.assert_close(small(X), masked(model, [2, 3])(X), rtol=1e-12, atol=1e-12)


@fx.wrap
def _wrapped(x: Tensor) -> Tensor:
    return F.layer_norm(x * 2, (8,)) + x.softmax(1)


def test_norms_of_another_type_than_their_operand_keep_the_operands_type() -> None:
    class Mixed(Middle):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.step(self.first(x)))

    model, x = Mixed(random(nn.LayerNorm(8))).eval(), X.bfloat16()
    model.first.bfloat16()
    model.last.bfloat16()
    assert fxprune.shrink(model, {"first": [1]}, x, norm="exact")(x).dtype is torch.bfloat16


def test_hooks_of_a_norm_are_kept() -> None:
    model = Middle(random(nn.LayerNorm(8))).double().eval()
    model.step.register_forward_hook(lambda module, inputs, out: out * 3)  # type: ignore[union-attr]
    small, _ = both(model, X, [1, 4])
    torch.testing.assert_close(small(X), masked(model, [1, 4])(X), rtol=1e-12, atol=1e-12)


def test_sizes_that_forward_reads_are_the_originals() -> None:
    steps: list[Step] = [
        lambda x: F.layer_norm(x, x.shape[-1:]),
        lambda x: F.rms_norm(x, x.shape[-1:], eps=0.1),
        lambda x: x.amax(x.dim() - 1, keepdim=True),
        lambda x: x.var(False),
    ]
    for step in steps:
        model = Middle(step).double().eval()
        small, _ = both(model, X, [0, 6])
        torch.testing.assert_close(small(X), masked(model, [0, 6])(X), rtol=1e-12, atol=1e-12)


def test_the_worked_number_of_a_layer_norm_that_is_written_out() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            nn.init.eye_(self.first.weight)
            nn.init.eye_(self.last.weight)

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x)
            c = h - h.mean(1, keepdim=True)
            return self.last(c / c.pow(2).mean(1, keepdim=True).sqrt())

    model, x = Written().double().eval(), torch.tensor([[1.0, 3.0, 5.0, 7.0]]).double()
    small = fxprune.shrink(model, {"first": [2, 3]}, x, norm="exact")
    assert small(x)[0, :2].tolist() == [0.0, 2.0]

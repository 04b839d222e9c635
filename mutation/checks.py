"""What a mutant has to survive: the tests that belong to its file, and then the zoo.

Runs in a process of its own, in a copy of the checkout, so nothing of fxprune is imported above.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Check = Callable[[], None]

# Tests that belong to a file by what they test and not by their name.
_TESTS = {
    "labels": ("tests/labels", "tests/test_immutability.py"),
    "rules": ("tests/test_immutability.py",),
    "passes": ("tests/test_immutability.py",),
    "rules/call": ("tests/rules/test_call.py", "tests/rules/test_custom_rules.py"),
    "rules/registry": ("tests/rules/test_registry.py", "tests/rules/test_custom_rules.py"),
    "rules/detection": ("tests/rules/test_torchvision_ops.py",),
    "rules/experts": ("tests/rules/test_transformers_ops.py",),
    "passes/position_repairs": ("tests/passes/test_repairs.py",),
    "passes/size_repairs": ("tests/passes/test_repairs.py",),
    "passes/repairs": ("tests/passes/test_repairs.py",),
    "passes/repair": ("tests/passes/test_repairs.py",),
    "passes/numbers": ("tests/passes/test_repairs.py", "tests/passes/test_repair_shapes.py"),
    "passes/exact_norms": ("tests/test_exact_norms.py",),
    "passes/inlining": ("tests/test_lowering.py",),
    "passes/repair_shapes": ("tests/passes/test_repair_shapes.py", "tests/test_lowering.py"),
}
# The threads that autograd starts in a forked process crash now and then, mutant or not.
_WITH_GRADIENTS = (
    "tests/passes/test_repair_shapes.py::test_the_shrunk_model_runs_under_autograd",
    "tests/passes/test_slice_state.py::test_training_the_result_leaves_the_original_alone",
    "tests/test_lowering.py::test_a_lowered_model_can_be_trained",
    "tests/test_exact_norms.py::test_a_result_trains_and_its_weights_keep_their_names_and_gradients",
)
_EVERY = 7  # Files that serve all rules are tried on every seventh sample.


def checks(file: str) -> Iterator[Check]:
    """The checks for a file, the quickest and most telling first."""
    path = Path(file)
    package, name = path.parts[1], path.stem
    tests = _tests(package, name)
    if package != "passes":
        yield _listings
    if package == "rules":
        yield lambda: _samples(name)
    if tests:
        yield lambda: _pytest(*tests)
    yield _zoo
    rest = [str(p) for p in sorted(Path("tests", package).glob("test_*.py"))]
    if package == "passes":
        yield lambda: _pytest(*(p for p in rest if p not in tests))


def _tests(package: str, name: str) -> list[str]:
    mirrored = Path("tests", package, f"test_{name}.py")
    chosen = _TESTS.get(package, ()) + _TESTS.get(f"{package}/{name}", ())
    own = [str(mirrored)] if mirrored.exists() and str(mirrored) not in chosen else []
    wrong = ["tests/rules/test_wrong_rules.py"] if package == "rules" else []
    return [*own, *chosen, *wrong]


def _pytest(*arguments: str) -> None:
    left_out = [f"--deselect={test}" for test in _WITH_GRADIENTS]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *left_out]
    code = pytest.main([*options, *arguments])
    if code != pytest.ExitCode.OK:
        raise AssertionError(f"pytest ends with {code}")


def _samples(name: str) -> None:
    """The rule oracle on the samples of a family."""
    from fxprune.testing import check_rule  # noqa: PLC0415  # only in the process of the mutant

    samples = importlib.import_module("tests.rules.samples")
    chosen = getattr(samples, name.upper(), None) or samples.SAMPLES[::_EVERY]
    for sample in chosen:
        check_rule(sample.op, sample)


def _listings() -> None:
    """The groups of every model of the zoo."""
    golden = importlib.import_module("tests.golden")
    for file in sorted(golden.FOLDER.glob("*.txt")):
        assert golden.listing(file.stem) == file.read_text(encoding="utf-8")


def _zoo() -> None:
    """Every model of the zoo, shrunk and verified, and some with other channels removed."""
    import fxprune  # noqa: PLC0415  # only in the process of the mutant

    zoo = importlib.import_module("models_zoo")
    for number, entry in enumerate(zoo.ZOO.values()):
        model, inputs = zoo.randomize(entry.build()).eval(), entry.example_inputs()
        deps = fxprune.analyze(model, inputs)
        options = {"criterion": "random", "seed": number} if number % 2 else {"head_dims": True}
        fxprune.shrink(deps, fxprune.plan(deps, inputs, 0.5, **options), inputs)

"""The public names are those listed here, and each is documented and annotated."""

import ast
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fxprune
import fxprune.testing

PUBLIC_NAMES = {
    # Functions
    "analyze",
    "carry_over",
    "distillation_loss",
    "draw",
    "fixer",
    "fold",
    "load",
    "make_permanent",
    "plan",
    "reconstruct",
    "rule",
    "save",
    "sensitivity",
    "shrink",
    "shrink_checkpoint",
    "sparsify",
    "sparsity",
    "verify",
    # Data
    "CheckpointReport",
    "DependencyGraph",
    "Diagnostic",
    "Explanation",
    "Group",
    "Plan",
    "Sensitivity",
    "Progressive",
    "Reconstruction",
    "ShrinkReport",
    "Strategy",
    "SparsityReport",
    "Verification",
    # Errors
    "AnalysisError",
    "CaptureError",
    "FxPruneError",
    "InputError",
    "Meaning",
    "PlanError",
    "RewriteError",
    "VerificationError",
    # Metadata
}

TESTING_NAMES = {
    "Adapter",
    "Kept",
    "NeedlessPinError",
    "Operand",
    "Sample",
    "WrongRuleError",
    "adapters",
    "check_rule",
}


def documented() -> dict[str, Any]:
    """The public names and what they mean, those of `fxprune.testing` under their full name."""
    found = {name: getattr(fxprune, name) for name in sorted(fxprune.__all__)}
    testing = {f"testing.{name}": getattr(fxprune.testing, name) for name in sorted(TESTING_NAMES)}
    del testing["testing.Adapter"]  # a type alias has no docstring
    return {name: value for name, value in (found | testing).items() if not name.startswith("__")}


def public_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public functions, and the public methods and properties that our classes define."""
    for name, value in documented().items():
        if not inspect.isclass(value):
            if callable(value):
                yield name, value
            continue
        for attribute, member in vars(value).items():
            function = member.fget if isinstance(member, property) else member
            function = getattr(function, "__func__", function)  # classmethod and staticmethod
            if not attribute.startswith("_") and inspect.isfunction(function):
                yield f"{name}.{attribute}", function


PUBLIC_FUNCTIONS = dict(public_functions())


def test_the_public_names_are_exactly_the_listed_ones() -> None:
    assert set(fxprune.__all__) == PUBLIC_NAMES
    assert len(fxprune.__all__) == len(PUBLIC_NAMES), "a name is exported twice"


def test_the_public_names_for_testing_are_exactly_the_listed_ones() -> None:
    assert set(fxprune.testing.__all__) == TESTING_NAMES


def test_every_public_name_can_be_imported() -> None:
    assert [name for name in fxprune.__all__ if not hasattr(fxprune, name)] == []


def test_every_error_is_an_fxprune_error() -> None:
    errors = [getattr(fxprune, name) for name in fxprune.__all__ if name.endswith("Error")]
    assert [error for error in errors if not issubclass(error, fxprune.FxPruneError)] == []


@pytest.mark.parametrize("name", documented())
def test_a_public_name_has_a_docstring(name: str) -> None:
    documentation = documented()[name].__doc__ or ""
    # A dataclass without a docstring gets its own signature for one.
    assert documentation
    assert not documentation.startswith(f"{name.rpartition('.')[2]}(")


@pytest.mark.parametrize("name", PUBLIC_FUNCTIONS)
def test_a_public_function_has_a_docstring_and_annotations(name: str) -> None:
    function = PUBLIC_FUNCTIONS[name]
    signature = inspect.signature(function)
    bare = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is parameter.empty and parameter.name not in {"self", "cls"}
    ]
    assert inspect.getdoc(function)
    assert bare == []
    assert signature.return_annotation is not signature.empty


def test_no_submodule_bears_the_name_of_a_public_function() -> None:
    # Importing such a submodule would overwrite the function in the package's namespace.
    submodules = {module.name for module in pkgutil.iter_modules(fxprune.__path__)}
    assert submodules & set(fxprune.__all__) == set()


def test_names_are_imported_when_asked_for():
    """`import fxprune` loads none of its modules; every public name and module is there."""
    program = (
        "import sys, fxprune;"
        "print(sorted(name for name in sys.modules if name.startswith('fxprune')));"
        "print(all(hasattr(fxprune, name) for name in fxprune.__all__));"
        "print(fxprune.importance.L1(), set(fxprune.__all__) <= set(dir(fxprune)))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['fxprune', 'fxprune.version']", "True", "L1 True"]


def test_names_come_from_where_type_checkers_find_them():
    """The table of `__init__` says what its imports for type checkers say."""
    tree = ast.parse(Path(fxprune.__file__).read_text(encoding="utf-8"))
    for_checkers, for_python = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(for_checkers.test) == "TYPE_CHECKING"
    assert ast.unparse(for_python.test) == "not TYPE_CHECKING"  # or every name would be known
    imported = {
        alias.name: str(node.module).removeprefix("fxprune.")
        for node in for_checkers.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == fxprune._HOME
    assert sorted(imported) == sorted(fxprune.__all__)


def test_an_unknown_name_is_an_attribute_error():
    """As of every module; `hasattr` says no."""
    assert not hasattr(fxprune, "prune")
    assert not hasattr(fxprune, "planning.plan_data")
    with pytest.raises(AttributeError, match="module 'fxprune' has no attribute 'prune'"):
        fxprune.prune  # noqa: B018  # type: ignore[attr-defined]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_every_name_can_be_the_first_that_is_asked_for():
    """No module needs another one to be imported before it."""
    program = (
        "import os, sys, torch, fxprune\n"
        "for name in fxprune.__all__:\n"
        "    if not (child := os.fork()):\n"
        "        getattr(fxprune, name)\n"
        "        sys.stdout.flush()\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0, name\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


def test_a_module_whose_package_is_missing_is_an_attribute_error(monkeypatch):
    """`hasattr` says no, and the error tells why; importing it by name raises what it did."""
    monkeypatch.setitem(sys.modules, "fxprune.lightning", None)
    monkeypatch.delattr(fxprune, "lightning", raising=False)
    assert not hasattr(fxprune, "lightning")
    with pytest.raises(ImportError):
        importlib.import_module("fxprune.lightning")


def test_a_public_name_is_in_dir():
    """And nothing of how it gets there."""
    assert set(fxprune.__all__) <= set(dir(fxprune))
    assert not {"Any", "TYPE_CHECKING", "importlib"} & set(dir(fxprune))

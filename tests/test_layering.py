"""The modules of fxprune form layers, and imports only ever point down."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

# Lowest first. A module may import from its own layer and from those above it in this table.
# `__init__` is the package itself: what `import fxprune` gives.
LAYERS = (
    {
        *("documents", "errors", "files", "images", "meaning", "state_files", "suggestions"),
        *(
            "bar_plots",
            "dot_text",
            "deferred",
            "interruptions",
            "measurements",
            "notebook_tables",
            "remarks",
            "repeats",
            "sample_files",
            "shards",
            "surroundings",
            "tables",
            "tensor_files",
            "values",
            "version",
        ),
    },
    {"labels"},
    {"rules"},
    {
        "analysis",
        "analysis_page",
        "axis_groups",
        "capture",
        "decompositions",
        "diagnostics",
        "dropping",
        "dynamic_sizes",
        "explanations",
        "graphs",
        "export_guards",
        "exporting",
        "groups",
        "inputs",
        "interpretation",
        "interpreter",
        "known_values",
        "label_mode",
        "lowered_repeats",
        "lowering",
        "meta_cache",
        "meta_kernels",
        "model_checks",
        "pin_places",
        "module_trees",
        "op_calls",
        "module_uses",
        "notebook_groups",
        "reasons",
        "recorded_graphs",
        "recording",
        "shares",
        "state_readers",
        "traces",
        "tracing",
        "sampling",
        "signatures",
        "weight_uses",
        "size_decisions",
    },
    {
        "differences",
        "guarded_writes",
        "input_sets",
        "passing_weights",
        "precision",
        "products",
        "readings",
        "reference",
        "rounding",
        "stepping",
    },
    {"cost", "importance", "planning", "sparsifying"},
    {"fixers", "passes"},
    {
        *(
            "accumulation",
            "comparison",
            "constants",
            "averages",
            "unknowns",
            "reads",
            "zeros",
            "donated_runs",
            "drop_verification",
            "folding",
            "gradient_runs",
            "gradient_verification",
            "interference",
            "modes",
            "shape_verification",
            "drawing",
            "emission",
            "latency_check",
            "layers",
            "size_check",
            "graph_verification",
            "module_calls",
            "module_runs",
            "notebook_reports",
        ),
        *("module_verification", "pretrained", "programs", "real_calls", "recipes"),
        "reconstruction",
        *("report", "report_page", "reports"),
        *("testing", "verification", "verification_page"),
    },
    {"choosing", "given_weights"},
    {"api"},
    {
        *("checkpoint_files", "checkpoints", "dynamo", "dynamo_graphs", "fx_passes", "progress"),
        *("sensitivities", "streaming", "tradeoffs"),
    },
    {"__init__"},
    {"lightning", "onnx"},
    {
        "__main__",
        "cli",
        "cli_bench",
        "cli_checkpoint",
        "cli_draw",
        "cli_export",
        "cli_jobs",
        "cli_options",
        "cli_output",
        "cli_report",
        "cli_sensitivity",
        "loading",
        "model_files",
        "model_libraries",
        "runtimes",
    },
)

# (module, what it must not import, why); these forbid more than the layers do.
FORBIDDEN = (
    ("labels", "torch", "channel labels are numpy arrays"),
    ("passes", "fxprune.analysis", "a pass reads the plan's decisions and never makes its own"),
)

PACKAGE = Path(__file__).parents[1] / "fxprune"


class Import(NamedTuple):
    path: Path
    line: int
    target: str  # Absolute dotted name, e.g. `fxprune.rules.reshape` or `torch.fx`.

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: imports {self.target}"


def modules(package: Path) -> set[str]:
    """Names of the modules and subpackages right below `package`."""
    return {
        entry.stem
        for entry in package.iterdir()
        if entry.suffix == ".py" or (entry.is_dir() and any(entry.rglob("*.py")))
    }


def sources(package: Path, module: str) -> Iterator[Path]:
    """The files of one module: its own, or all those of a subpackage."""
    file = package / f"{module}.py"
    yield from [file] if file.exists() else sorted((package / module).rglob("*.py"))


def imports(package: Path, module: str) -> Iterator[Import]:
    """Every import statement of `module`, also inside functions and under TYPE_CHECKING."""
    for path in sources(package, module):
        here = path.relative_to(package.parent).with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                parents = here[: -node.level] if node.level else ()
                source = ".".join([*parents, *filter(None, [node.module])])
                targets = [f"{source}.{alias.name}" for alias in node.names]
            else:
                continue
            yield from (Import(path, node.lineno, target) for target in targets)


def imported_module(package: Path, target: str) -> str | None:
    """The module of `package` that `target` lies in; None outside the package."""
    top, _, rest = target.partition(".")
    if top != package.name:
        return None
    name = rest.partition(".")[0]
    return name if name in modules(package) else "__init__"


def unknown_modules(package: Path) -> set[str]:
    return modules(package) - set().union(*LAYERS)


def upward_imports(package: Path) -> list[str]:
    rank = {module: height for height, layer in enumerate(LAYERS) for module in layer}
    return [
        str(found)
        for module in sorted(modules(package) & rank.keys())
        for found in imports(package, module)
        if (target := imported_module(package, found.target)) is not None
        and rank.get(target, -1) > rank[module]
    ]


def forbidden_imports(package: Path) -> list[str]:
    return [
        f"{found}, but {reason}"
        for module, banned, reason in FORBIDDEN
        for found in imports(package, module)
        if f"{found.target}.".startswith(f"{banned}.")
    ]


def test_every_module_has_a_layer() -> None:
    assert unknown_modules(PACKAGE) == set(), "give each of these a place in LAYERS"


def test_no_module_imports_a_higher_layer() -> None:
    assert upward_imports(PACKAGE) == []


def test_no_module_imports_what_it_is_forbidden_to() -> None:
    assert forbidden_imports(PACKAGE) == []


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A package with one empty file per module that the checks below write into."""
    package = tmp_path / "fxprune"
    for file in ("__init__", "labels", "analysis", "rules/__init__", "passes/slicing"):
        path = package / f"{file}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return package


@pytest.mark.parametrize(
    "statement",
    [
        "import fxprune.analysis",
        "import fxprune.analysis as a",
        "from fxprune import analysis",
        "from fxprune import analyze",
        "from fxprune.analysis import analyze",
        "from .. import analysis",
        "from ..analysis import analyze",
        "def f():\n    from fxprune.passes.slicing import Slice",
    ],
)
def test_an_upward_import_is_found_however_it_is_spelled(fake: Path, statement: str) -> None:
    (fake / "rules" / "reshape.py").write_text(statement)
    assert len(upward_imports(fake)) == 1


@pytest.mark.parametrize(
    "statement", ["import torch", "from fxprune import labels", "from . import convolution"]
)
def test_an_import_downward_sideways_or_out_is_allowed(fake: Path, statement: str) -> None:
    (fake / "rules" / "convolution.py").touch()
    (fake / "rules" / "reshape.py").write_text(statement)
    assert upward_imports(fake) == []


def test_a_module_without_a_layer_is_found(fake: Path) -> None:
    (fake / "helpers.py").touch()
    assert unknown_modules(fake) == {"helpers"}


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        ("labels", "import torch"),
        ("labels", "from torch.fx import Node"),
        ("passes/slicing", "from fxprune.analysis import analyze"),
        ("passes/slicing", "from fxprune import analysis"),
    ],
)
def test_a_forbidden_import_is_found(fake: Path, file: str, statement: str) -> None:
    (fake / f"{file}.py").write_text(statement)
    assert len(forbidden_imports(fake)) == 1

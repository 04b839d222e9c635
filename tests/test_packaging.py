"""What users install is `fxprune` alone, complete, and runs away from the checkout."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import fxprune

pytest.importorskip("build")
pytest.importorskip("hatchling")

pytestmark = [
    pytest.mark.slow,
    # One worker builds and installs once for all the tests of this file.
    pytest.mark.xdist_group("packaging"),
]

CHECKOUT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Standard output of `command`; `path` is what PYTHONPATH shall hold."""
    environment = {**os.environ, "PYTHONPATH": str(path or "")}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist, which is built from the checkout."""
    output = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", output, cwd=CHECKOUT)
    (built,) = output.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel is installed."""
    target = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
    run(*pip, "--target", target, wheel, cwd=target)
    return target


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_fxprune_and_nothing_else(wheel: Path) -> None:
    version = fxprune.__version__
    top_level = {name.partition("/")[0] for name in contents(wheel)}
    assert top_level == {"fxprune", f"fxprune-{version}.dist-info"}


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    package = {
        path.relative_to(CHECKOUT).as_posix()
        for path in (CHECKOUT / "fxprune").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "fxprune/py.typed" in package
    assert any(name.startswith("fxprune/passes/") for name in package)
    assert package <= contents(wheel)


def imported(path: Path) -> Iterator[str]:
    """The packages that a module imports when it is imported itself."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_everything_that_is_imported_is_declared() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[^\w-]", line)[0] for line in project["dependencies"]}
    extra = {re.split(r"[^\w-]", line)[0] for line in project["optional-dependencies"]["onnx"]}
    package = CHECKOUT / "fxprune"
    modules = {path: set(imported(path)) for path in package.rglob("*.py")}
    of_extra = {path for path in modules if package / "onnx" in path.parents}
    known = sys.stdlib_module_names | {"fxprune"}
    assert set().union(*(modules[p] for p in modules.keys() - of_extra)) - known == declared
    assert set().union(*(modules[p] for p in of_extra)) - known - declared == extra


def test_torch_finds_the_backend_of_the_installed_package(installed: Path, tmp_path: Path) -> None:
    code = "import torch._dynamo as d; print(d.lookup_backend('fxprune').__module__)"
    assert run(sys.executable, "-W", "error", "-c", code, cwd=tmp_path, path=installed) == (
        "fxprune.dynamo"
    )


def test_the_installed_package_imports_from_where_it_is_installed(
    installed: Path, tmp_path: Path
) -> None:
    code = "import fxprune, fxprune.passes; print(fxprune.__file__)"
    file = run(sys.executable, "-P", "-c", code, cwd=tmp_path, path=installed)
    assert Path(file) == installed / "fxprune" / "__init__.py"


def test_the_installed_console_script_runs(installed: Path, tmp_path: Path) -> None:
    output = run(installed / "bin" / "fxprune", "--help", cwd=tmp_path, path=installed)
    assert "Usage" in output


@pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="not a git checkout")
def test_the_passes_at_the_top_are_a_tracked_relative_symlink() -> None:
    symlink = "120000"  # The file mode that git gives to symbolic links.
    assert run("git", "ls-files", "--stage", "passes", cwd=CHECKOUT).startswith(symlink)
    assert (CHECKOUT / "passes").readlink() == Path("fxprune/passes")

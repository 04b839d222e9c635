"""Rows are kept from one run to the next, and never stale."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps import rows
from sweeps.rows import Row, RowFile, row_file


def row(name: str, cut: float = 0.5) -> Row:
    return Row("timm", "images", name, "shrunk", cut=cut)


def test_a_row_that_was_appended_is_read_again(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "deep" / "rows.jsonl")
    assert file.read() == {}
    file.append(row("a"))
    file.append(row("b"))
    assert file.read() == {"timm/images/a": row("a"), "timm/images/b": row("b")}


def test_the_last_row_of_a_model_counts(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.jsonl")
    file.append(row("a", cut=0.1))
    file.append(row("a", cut=0.2))
    assert file.read() == {"timm/images/a": row("a", cut=0.2)}


@pytest.mark.parametrize(
    "torn", ['{"library": "ti', '{"library": "timm", "unknown": 1}', "[]", "3"]
)
def test_a_line_that_is_no_row_costs_only_itself(tmp_path: Path, torn: str) -> None:
    file = RowFile(tmp_path / "rows.jsonl")
    file.append(row("a"))
    with file.path.open("a") as stream:
        stream.write(torn)
    file.append(row("b"))
    assert set(file.read()) == {"timm/images/a", "timm/images/b"}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one line in each file that rows depend on."""
    files = "fxprune/api", "models_zoo/values", "sweeps/entry", "sweeps/measuring"
    for name in (*files, "sweeps/timm_models", "sweeps/transformers_models/vision"):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("one = 1\n")
    monkeypatch.setattr(rows, "_ROOT", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("changed", ["fxprune/api", "sweeps/measuring", "sweeps/timm_models"])
def test_rows_are_forgotten_when_what_they_depend_on_changes(checkout: Path, changed: str) -> None:
    row_file("timm").append(row("a"))
    assert set(row_file("timm").read()) == {"timm/images/a"}
    (checkout / f"{changed}.py").write_text("one = 2\n")
    assert row_file("timm").read() == {}


def test_rows_are_forgotten_when_a_library_is_updated(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row_file("timm").append(row("a"))
    monkeypatch.setattr(rows, "versions", lambda: {"timm": "99"})
    assert row_file("timm").read() == {}


def test_rows_outlive_a_change_of_another_librarys_table(checkout: Path) -> None:
    row_file("timm").append(row("a"))
    (checkout / "sweeps/transformers_models/vision.py").write_text("one = 2\n")
    assert set(row_file("timm").read()) == {"timm/images/a"}

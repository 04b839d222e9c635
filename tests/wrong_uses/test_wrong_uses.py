"""Every wrong use gives exactly its error, and changes nothing."""

from pathlib import Path

import pytest

from tests.wrong_uses import golden
from tests.wrong_uses.table import error_of


@pytest.mark.parametrize("name", golden.ROWS)
def test_a_wrong_use_gives_its_error_and_changes_nothing(name: str, tmp_path: Path) -> None:
    assert error_of(golden.ROWS[name], tmp_path) == golden.accepted()[name]


def test_every_error_in_the_table_belongs_to_a_wrong_use() -> None:
    assert list(golden.accepted()) == list(golden.ROWS)
    assert golden.names_are_unique()


def test_the_page_tells_the_same_errors() -> None:
    page = golden.PAGE.read_text(encoding="utf-8")
    assert golden.as_page(golden.accepted()) == page


def test_the_table_is_long() -> None:
    assert len(golden.ROWS) >= 60

"""The folders that tests of checkpoints read and write."""

from pathlib import Path

import pytest

from tests.streaming.nets import build, stored, write_sharded


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint of the original in shards."""
    return write_sharded(stored(build()), tmp_path / "source")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder that is not there yet."""
    return tmp_path / "target"

"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fxprune.errors import FxPruneError, in_one_line


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file which then takes the place of `path`, whole or not at all.

    Raises:
        FxPruneError: it cannot be written; an existing file is left as it was.
    """
    target = path.resolve()
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        write(draft)
        draft.replace(target)
    except FxPruneError:
        raise
    except Exception as error:
        raise FxPruneError(f"{path} cannot be written: {in_one_line(error)}") from error
    finally:
        draft.unlink(missing_ok=True)

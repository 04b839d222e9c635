"""torchvision's models, for tests that are skipped where it is not installed."""

from typing import Any

import pytest


class _Models:
    """Looks for torchvision once a test asks for one of its models."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)  # pytest looks at what modules hold
        return getattr(pytest.importorskip("torchvision.models"), name)


models: Any = _Models()

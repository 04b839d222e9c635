"""What every test starts from: one thread per worker, one seed, no deadline."""

import os

import hypothesis
import pytest
import torch

SEED = 0

hypothesis.settings.register_profile(
    "fxprune",
    deadline=None,  # The first call of a torch op may take a second.
    derandomize="CI" in os.environ,
)
hypothesis.settings.load_profile("fxprune")


def pytest_configure() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests that need a network are no tests
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Each worker, and each process that a test starts, would otherwise use every core.
        torch.set_num_threads(1)
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def seed() -> int:
    """Give every test the same random numbers, alone or in company, and return the seed."""
    torch.manual_seed(SEED)
    return SEED

"""A limit on the time of each test: an algebra that does not terminate fails, and never hangs."""

import signal
from collections.abc import Iterator

import pytest

SECONDS = 120


class NeverEndingTestError(BaseException):
    """No Exception, so that hypothesis does not go on to look for a smaller example."""


def give_up(*_: object) -> None:
    raise NeverEndingTestError(f"not done after {SECONDS} seconds")


@pytest.fixture(autouse=True)
def limited_time() -> Iterator[None]:
    if not hasattr(signal, "SIGALRM"):  # Windows
        yield
        return
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)

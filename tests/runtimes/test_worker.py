"""The process of a candidate ends without a word when nobody listens any more."""

import subprocess
import sys
from pathlib import Path

from fxprune.runtimes import worker

COMMAND = [sys.executable, "-P", str(Path(worker.__file__))]


def test_a_process_that_is_asked_nothing_says_nothing() -> None:
    ended = subprocess.run(COMMAND, input="", capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")


def test_a_process_whose_answer_nobody_takes_says_nothing() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stdin is not None
        assert process.stderr is not None
        print("no job", file=process.stdin, flush=True)
        assert process.stderr.read() == ""
        assert process.wait(60) == 0

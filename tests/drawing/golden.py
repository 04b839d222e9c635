"""Pictures in DOT that are compared to the letter.

`python -m tests.drawing.golden` writes them anew.
"""

from __future__ import annotations

from pathlib import Path

import fxprune
from fxprune.drawing import dot_of, picture_of
from fxprune.drawing.folding import folded
from tests.drawing.models import IMAGE, WORDS, Attention, analyzed, residual

FOLDER = Path(__file__).parent / "expected"


def texts() -> dict[str, str]:
    """The pictures by the names of their files."""
    planned = residual(6, 6, 4)
    plan = fxprune.plan(planned, IMAGE, ratio=0.5)
    attention = picture_of(analyzed(Attention(), WORDS))
    return {
        "residual.dot": dot_of(folded(picture_of(planned, plan))),
        "attention.dot": dot_of(attention),
        "attention_part.dot": dot_of(attention.around("attend", 0)),
    }


def main() -> None:
    """Write them."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

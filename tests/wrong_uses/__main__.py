"""`python -m tests.wrong_uses` tells which errors differ; with `--write` it writes them anew."""

from __future__ import annotations

import argparse
import sys

from tests.wrong_uses import golden


def main() -> int:
    """Compare, or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table, and the page")
    write = parser.parse_args().write
    errors = golden.actual()
    known = golden.accepted() if golden.EXPECTED.exists() else {}
    differing = [name for name in {**known, **errors} if known.get(name) != errors.get(name)]
    page = golden.as_page(errors)
    is_stale = page != golden.PAGE.read_text(encoding="utf-8")
    if write:
        golden.EXPECTED.write_text(golden.as_text(errors), encoding="utf-8")
        golden.PAGE.write_text(page, encoding="utf-8")
    print(f"{len(errors)} wrong uses, {len(differing)} differ", *differing, sep="\n  ")
    return 0 if write or not (differing or is_stale) else 1


if __name__ == "__main__":
    sys.exit(main())

"""The sweep: every model of three libraries; `python -m sweeps` writes docs/coverage.md."""

"""The pictures of docs/concepts.md, made from analyses: `python -m examples.concepts`."""

"""Measurements against the tools of the field; run one with `uv run python -m benchmarks.NAME`."""

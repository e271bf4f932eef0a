"""Ours beside its peers, in one run: `python -m benchmarks` (docs/benchmarks.md has the method)."""

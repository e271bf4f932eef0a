"""Peers that need an environment of their own; each module is a worker (`benchmarks.worker`)."""

"""Who runs in processes of its own, peers and ours; each module is a worker (`benchmarks.worker`).

Some need another environment; the others are the sides (`benchmarks.sides`) of one system each.
"""

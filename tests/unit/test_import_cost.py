"""`import hms_bus` stays cheap: what only some buses need is loaded when such a bus is made."""

import subprocess
import sys

# What it loads on top of asyncio, as every user of the bus has that one loaded anyway.
PROGRAM = """
import asyncio, sys
before = set(sys.modules)
import hms_bus
print(*(set(sys.modules) - before), sep="\\n")
"""

HEAVY = frozenset(
    {
        "aiosqlite",
        "cbor2",
        "click",
        "google.protobuf",
        "nats",
        "opentelemetry",
        "pydantic",
        "rich",
        "sqlite3",
        "ssl",
        "uvloop",
    }
)


def test_import_loads_nothing_heavy() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "hms_bus" in loaded
    assert HEAVY.isdisjoint(loaded), f"loaded by import: {sorted(HEAVY.intersection(loaded))}"

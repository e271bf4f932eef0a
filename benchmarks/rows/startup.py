"""Starting: what `import hms_bus` costs a program that has asyncio loaded anyway."""

import asyncio
import os
import sys

from benchmarks.model import Gauge
from benchmarks.worker import ROOT

PROGRAM = """
import asyncio, time
started = time.perf_counter()
import hms_bus
print((time.perf_counter() - started) * 1000)
"""


async def import_ms() -> float:
    """Return the milliseconds of the import in a fresh interpreter that finds compiled modules."""
    # The first one compiles what is missing, even where that is switched off for us.
    await _start()
    return await _start()


async def _start() -> float:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return float(output)


ROWS = (
    Gauge(
        name="import",
        title="import hms_bus on top of import asyncio",
        unit="ms",
        measure=import_ms,
        rounds=15,
        at_most=40,
    ),
)

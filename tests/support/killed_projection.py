"""A projection in a process of its own, that kills itself in the middle of a transaction."""

import asyncio
import os
import signal
import sys

from msgspec import Struct

from hms_bus.abc import Record
from hms_bus.plugins import open_log
from hms_bus.sourcing import Projection
from hms_bus.sourcing.sqlite import open_views
from tests.support.sourced import Rows, balances


class Last(Struct, frozen=True):
    """An event that may be the last one that the process handles."""

    amount: int


def deadly(position: int) -> Projection[Rows]:
    """Return `balances`, which after its row for `position` kills the process."""
    projection = balances()

    @projection.on(Last)
    def die(event: Last, rows: Rows, record: Record) -> None:
        if record.position == position:
            rows.execute("INSERT INTO balances VALUES ('never', 1)")
            os.kill(os.getpid(), signal.SIGKILL)

    return projection


async def main(log_url: str, views_path: str, position: int) -> None:
    """Run until the end of the log, or until killed."""
    async with open_log(log_url) as log, open_views(views_path) as views:
        await deadly(position).run(log, views)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))

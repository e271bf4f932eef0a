"""What a client is told when what it asked for has failed."""

import logging

from hms_bus.errors import BusError
from hms_bus.ipc.failures import to_failure
from hms_bus.ipc.session import Failure

logger = logging.getLogger("hms_bus.hub")


def failure_of(error: BaseException, what: str) -> Failure:
    """Return what is told of `error`; one that is a bug of ours is logged as one of `what`."""
    if isinstance(error, BusError):
        return to_failure(error)
    logger.error("%s has failed: %r", what, error, exc_info=error)
    return Failure(code="INTERNAL", message=f"{type(error).__name__}: {error}")

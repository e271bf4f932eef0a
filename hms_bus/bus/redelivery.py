"""What becomes of a delivery: when it is settled, and how long it waits to be made again."""

import random
from math import inf
from typing import Literal

from msgspec import Struct

from hms_bus.errors import ConfigError

AckMode = Literal["after", "manual"]


class Backoff(Struct, frozen=True, kw_only=True):
    """How long a message waits that could not be handled.

    `first_s` before the second delivery, `factor` times as long before each further one, at most
    `max_s`, varied at random by the share `jitter`.
    """

    first_s: float = 1.0
    factor: float = 2.0
    max_s: float = 300.0
    jitter: float = 0.2

    def check(self) -> "Backoff":
        """Return it. Raises `ConfigError` for what cannot be waited."""
        if not (0 <= self.first_s < inf and 0 <= self.max_s < inf and 1 <= self.factor < inf):
            raise ConfigError(f"{self}: first_s and max_s are seconds, factor is at least 1")
        if not 0 <= self.jitter <= 1:
            raise ConfigError(f"{self}: jitter is a share, 0 to 1")
        return self

    def delay_s(self, attempt: int) -> float:
        """Return the wait after the `attempt`-th delivery, counted from 1."""
        try:
            wait_s = min(self.first_s * self.factor ** (attempt - 1), self.max_s)
        except OverflowError:
            wait_s = self.max_s if self.first_s else 0.0
        return wait_s * random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311 - no secret


class Redelivery(Struct, frozen=True, kw_only=True):
    """What a durable subscription does with its deliveries."""

    ack: AckMode = "after"
    backoff: Backoff = Backoff()

"""What `bus.subscribe` and `bus.serve` refuse before there is a handler."""

from typing import Any

import pytest

from hms_bus import Bus
from hms_bus.errors import ConfigError


@pytest.mark.parametrize("method", ["subscribe", "serve"])
def test_a_decorator_without_parentheses_says_that_the_pattern_is_missing(method: str) -> None:
    decorate: Any = getattr(Bus(), method)
    with pytest.raises(ConfigError, match=f"write @bus.{method}"):

        @decorate
        async def handle(order: dict[str, Any]) -> None: ...

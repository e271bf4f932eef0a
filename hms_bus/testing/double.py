"""The test double: a bus in the process that behaves like one on a wire."""

from typing import Any

from hms_bus.bus import Bus


def bus(
    name: str = "", *, codec: str = "json", log: str | None = "memory:", **settings: Any
) -> Bus:
    """Return a bus for tests: in this process, with a log in memory, every envelope encoded.

    It is the direct transport with the codec's round trip switched on, so what a wire would change
    or refuse shows in the test: objects arrive as copies, in the type that the handler asks for.
    Buses of one `name` share the address; without one the bus is alone. Each has a log of its own
    unless `log` names a shared one (`memory:NAME`).

    `settings` are those of `Bus`; requests time out after 2 s and draining after 5 s, so that a
    failing test does not hang. Not open yet: use it in `async with`. Raises `ConfigError`.
    """
    defaults: dict[str, Any] = {"request_timeout_s": 2.0, "drain_timeout_s": 5.0}
    return Bus(f"direct://{name}?codec={codec}", codec=codec, log=log, **(defaults | settings))

"""What every test runs under: hypothesis profiles, hubs of its own, a watch on the event loop."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.blocking import BlockingCall, blocking_calls_of
from tests.support.hub_places import runtime_folder

# No deadline anywhere: a test never depends on how busy the machine is. `make test` takes dev,
# CI asks for the other one with --hypothesis-profile=ci.
settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=300, derandomize=True, print_blob=True)
settings.load_profile("dev")


@pytest.fixture(scope="session", autouse=True)
def own_hubs() -> Iterator[None]:
    """Keep the hubs that tests start apart from the user's, and leave none behind."""
    with runtime_folder():
        yield


@pytest.fixture(autouse=True)
def blocking_calls() -> Iterator[list[BlockingCall]]:
    """Fail the test when hms_bus has blocked a running loop, even if the error was handled."""
    with blocking_calls_of("hms_bus") as calls:
        yield calls
    if calls:
        pytest.fail("hms_bus blocked the event loop:\n\n" + "\n".join(map(str, calls)))

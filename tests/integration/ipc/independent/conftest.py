"""A hub, agents of hms_bus in processes of their own, and the client of examples/ipc_client.py.

It shares no code with hms_bus, so what is shown here is that spec/ipc.md is enough. It reads JSON
only: an agent that writes CBOR or protobuf hears it, and cannot be heard by it.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from examples.ipc_client import Client
from tests.support.agent_process import AgentProcess, running_agent
from tests.support.hub_places import runtime_folder
from tests.support.hub_process import HubProcess, running_hub

_numbers = count(1)


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with runtime_folder(), running_hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def agent_of(hub: HubProcess) -> Iterator[Callable[[str], AgentProcess]]:
    """The agent that writes a codec; it is started when somebody asks for it."""
    agents: dict[str, AgentProcess] = {}
    with ExitStack() as stack:

        def agent_of(codec: str) -> AgentProcess:
            if codec not in agents:
                agents[codec] = stack.enter_context(running_agent(hub.url, codec))
            return agents[codec]

        yield agent_of


@pytest.fixture(scope="module")
def agent(agent_of: Callable[[str], AgentProcess]) -> AgentProcess:
    return agent_of("json")


@pytest.fixture
async def client(hub: HubProcess) -> AsyncIterator[Client]:
    async with Client(hub.place.url, name="independent") as client:
        yield client


@pytest.fixture
def topic() -> str:
    """A topic that no other test has."""
    return f"topic{next(_numbers)}"

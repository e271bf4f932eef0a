"""What a handler's parameters are filled with."""

import functools
import textwrap
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TypedDict
from unittest.mock import AsyncMock
from uuid import UUID

import msgspec
import pydantic
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from hms_bus import Bus, Envelope, Message
from hms_bus.bus.injection import Signature, read_signature
from hms_bus.errors import ConfigError, DecodeError
from hms_bus.topics import parse_pattern
from tests.support.events import event

if TYPE_CHECKING:
    from decimal import Decimal


class Order(msgspec.Struct):
    n: int


@dataclass
class Place:
    city: str


class Row(TypedDict):
    n: int


class Model(pydantic.BaseModel):
    n: int


BUS = Bus()


def read(handler: Callable[..., Any], pattern: str = "orders.{region}.{n}") -> Signature:
    return read_signature(handler, parse_pattern(pattern), BUS, local=globals())


def message(data: Any = None, topic: str = "orders.eu.5") -> Message:
    captures = parse_pattern("orders.{region}.{n}").capture(topic)
    return Message(event(topic, data), captures=captures)


async def call(handler: Callable[..., Any], given: Message) -> Any:
    return await read(handler).call(given)


# -- by annotation and by name ---------------------------------------------------------------------


async def test_everything_at_once_in_any_order() -> None:
    async def handler(  # noqa: PLR0917 - as many as there are
        region: str, msg: Message, order: Order, bus: Bus, env: Envelope, n: int
    ) -> Any:
        return region, msg, order, bus, env, n

    given = message({"n": 1})
    expected = ("eu", given, Order(1), BUS, given.envelope, 5)
    assert await call(handler, given) == expected


async def test_a_handler_may_take_nothing() -> None:
    async def handler() -> str:
        return "called"

    assert await call(handler, message()) == "called"
    assert read(handler).call_payload is None


async def test_the_payload_alone_takes_the_short_way() -> None:
    async def handler(order: Order) -> Order:
        return order

    signature = read(handler)
    assert signature.call_payload is handler
    assert (signature.payload, signature.streams) == (Order, False)
    assert await signature.call(message({"n": 1})) == Order(1)


async def test_without_an_annotation_the_payload_comes_as_builtins() -> None:
    async def handler(anything: Any) -> Any:
        return anything

    del handler.__annotations__["anything"]
    assert await call(handler, message({"n": 1})) == {"n": 1}


async def test_keyword_only_parameters_are_filled_by_name() -> None:
    async def handler(*, order: Order, region: str) -> Any:
        return order, region

    assert await call(handler, message({"n": 1})) == (Order(1), "eu")


async def test_a_lone_keyword_only_payload_is_not_passed_by_position() -> None:
    async def handler(is_test: bool = False, *, order: Order) -> Any:  # noqa: FBT002
        return is_test, order

    signature = read(handler)
    assert signature.call_payload is None
    assert await signature.call(message({"n": 1})) == (False, Order(1))


async def test_a_default_is_left_alone() -> None:
    async def handler(order: Order, limit: int = 7, *rest: Any, **more: Any) -> Any:
        return order, limit, rest, more

    assert await call(handler, message({"n": 1})) == (Order(1), 7, (), {})


async def test_a_capture_wins_over_a_default() -> None:
    async def handler(n: int = 7, region: str = "nowhere") -> Any:
        return n, region

    assert await call(handler, message()) == (5, "eu")


async def test_positional_only_parameters_are_filled() -> None:
    async def handler(order: Order, region: str, /) -> Any:
        return order, region

    assert await call(handler, message({"n": 1})) == (Order(1), "eu")


@pytest.mark.parametrize(
    ("hint", "token", "value"),
    [
        (str, "5", "5"),
        (Any, "5", "5"),
        (int, "5", 5),
        (float, "5", 5.0),
        (Literal["5", "6"], "5", "5"),
        (date, "2026-01-31", date(2026, 1, 31)),
        (UUID, str(UUID(int=5)), UUID(int=5)),
    ],
)
async def test_a_capture_becomes_its_annotation(hint: Any, token: str, value: Any) -> None:
    async def handler(n: Any) -> Any:
        return n

    handler.__annotations__["n"] = hint
    given = message(topic=f"orders.eu.{token}")
    result = await call(handler, given)
    assert (type(result), result) == (type(value), value)


async def test_a_capture_that_does_not_fit_names_itself() -> None:
    async def handler(n: int) -> None: ...

    with pytest.raises(DecodeError) as caught:
        await call(handler, message(topic="orders.eu.many"))
    assert (caught.value.field, caught.value.topic) == ("{n}", "orders.eu.many")


class Unknown:
    """A class that no text can become."""


@pytest.mark.parametrize(
    "hint",
    [Unknown, Unknown | None, Order, Place, list[int], dict[str, int], Model, int | Unknown, 5],
)
def test_a_capture_that_no_token_fits_is_refused_where_it_is_declared(hint: Any) -> None:
    async def handler(n: Any) -> None: ...

    handler.__annotations__["n"] = hint
    with pytest.raises(ConfigError, match=r"handler .*handler: (parameter 'n'|an annotation)"):
        read(handler)


@pytest.mark.parametrize(
    ("hint", "token", "value"),
    [
        (int | None, "5", 5),
        (int | str, "x", "x"),
        (Annotated[int, msgspec.Meta(ge=1)], "5", 5),
        (object, "5", "5"),
        (bool, "true", True),
    ],
)
async def test_a_capture_may_be_one_of_several(hint: Any, token: str, value: Any) -> None:
    async def handler(n: Any) -> Any:
        return n

    handler.__annotations__["n"] = hint
    assert await call(handler, message(topic=f"orders.eu.{token}")) == value


async def test_what_is_injected_may_be_optional() -> None:
    async def handler(
        order: Order,
        msg: Message | None = None,
        env: Optional[Envelope] = None,  # noqa: UP045 - as many still write it
        bus: Bus | None = None,
    ) -> Any:
        return order, msg, env, bus

    given = message({"n": 1})
    assert await call(handler, given) == (Order(1), given, given.envelope, BUS)


# -- payload types -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "data", "expected"),
    [
        (Order, {"n": 1}, Order(1)),
        (Order, Order(1), Order(1)),
        (Place, {"city": "Rome"}, Place("Rome")),
        (Row, {"n": 1}, {"n": 1}),
        (Model, {"n": 1}, Model(n=1)),
        (Model, Model(n=1), Model(n=1)),
        (Order, Model(n=1), Order(1)),
        (StringValue, StringValue(value="x"), StringValue(value="x")),
        (list[Order], [{"n": 1}, {"n": 2}], [Order(1), Order(2)]),
        (Order | None, None, None),
        (Annotated[int, msgspec.Meta(ge=1)], 5, 5),
        (dict[str, int], {"n": 1}, {"n": 1}),
        (bytes, b"\x00", b"\x00"),
        (str, "text", "text"),
        (object, "text", "text"),
    ],
)
async def test_the_payload_becomes_its_annotation(hint: Any, data: Any, expected: Any) -> None:
    async def handler(payload: Any) -> Any:
        return payload

    handler.__annotations__["payload"] = hint
    assert await call(handler, message(data)) == expected


@pytest.mark.parametrize(
    ("hint", "data"),
    [
        (Order, {"n": "many"}),
        (Order, {}),
        (Row, {"n": "many"}),
        (Model, {"n": "many"}),
        (Place, [1]),
        (Annotated[int, msgspec.Meta(ge=1)], 0),
    ],
)
async def test_a_payload_that_does_not_fit_names_topic_and_type(hint: Any, data: Any) -> None:
    async def handler(payload: Any) -> None: ...

    handler.__annotations__["payload"] = hint
    with pytest.raises(DecodeError) as caught:
        await call(handler, message(data))
    assert (caught.value.reason, caught.value.topic) == ("payload", "orders.eu.5")
    assert caught.value.type == message(data).type


# -- kinds of handlers -----------------------------------------------------------------------------


class Agent:
    async def method(self, order: Order, region: str) -> Any:
        return type(self).__name__, order, region

    @classmethod
    async def of_class(cls, order: Order) -> Any:
        return cls.__name__, order

    @staticmethod
    async def static(order: Order) -> Any:
        return order

    async def __call__(self, order: Order, msg: Message) -> Any:
        return order, msg.topic


class Lister:
    async def __call__(self, order: Order) -> AsyncIterator[int]:
        yield order.n


async def test_methods_and_callable_objects_are_handlers() -> None:
    agent = Agent()
    given = message({"n": 1})
    assert await call(agent.method, given) == ("Agent", Order(1), "eu")
    assert await call(Agent.of_class, given) == ("Agent", Order(1))
    assert await call(Agent.static, given) == Order(1)
    assert await call(agent, given) == (Order(1), "orders.eu.5")
    assert read(agent.method).name == "Agent.method"
    assert read(agent).name == "Agent.__call__"


async def test_a_partial_is_a_handler_with_the_annotations_of_its_function() -> None:
    async def handler(prefix: str, order: Order, msg: Message, *, suffix: str) -> Any:
        return prefix, order, msg.topic, suffix

    bound = functools.partial(functools.partial(handler, "pre"), suffix="post")
    assert await call(bound, message({"n": 1})) == ("pre", Order(1), "orders.eu.5", "post")
    assert read(bound).name.endswith("handler")


async def test_a_partial_of_a_callable_object_is_a_handler() -> None:
    assert await call(functools.partial(Agent(), Order(7)), message()) == (Order(7), "orders.eu.5")


async def test_a_decorated_function_keeps_its_parameters() -> None:
    def loud(handler: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handler)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return "loud", await handler(*args, **kwargs)

        return wrapper

    @loud
    async def handler(order: Order, region: str) -> Any:
        return order, region

    assert await call(handler, message({"n": 1})) == ("loud", (Order(1), "eu"))


async def test_an_async_mock_is_a_handler() -> None:
    mock = AsyncMock(return_value=5)
    assert await call(mock, message()) == 5
    mock.assert_awaited_once_with()


async def test_generators_are_told_apart() -> None:
    async def items(order: Order) -> AsyncIterator[int]:
        yield order.n

    for handler in (items, functools.partial(items), Lister()):
        signature = read(handler)
        assert signature.streams
        assert [item async for item in signature.call(message({"n": 1}))] == [1]


def sync(order: Order) -> None: ...


def sync_items(order: Order) -> Any:
    yield order


class SyncAgent:
    def __call__(self, order: Order) -> None: ...


@pytest.mark.parametrize(
    "handler", [sync, sync_items, SyncAgent(), SyncAgent, functools.partial(sync), len]
)
def test_what_is_not_async_is_refused_with_advice(handler: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match=r"is not async: write 'async def'.*to_thread"):
        read(handler)


def test_two_payloads_are_refused() -> None:
    async def handler(order: Order, other: Order) -> None: ...

    with pytest.raises(ConfigError, match="both 'order' and 'other' could be the payload"):
        read(handler)


# -- annotations that are text -------------------------------------------------------------------


def postponed(source: str) -> Any:
    """The function `handler` of a module with postponed annotations."""
    namespace: dict[str, Any] = {"Order": Order, "Message": Message, "Bus": Bus}
    header = "from __future__ import annotations\n"
    exec(header + textwrap.dedent(source), namespace)  # noqa: S102 - a module of our own
    return namespace["handler"]


async def test_postponed_annotations_are_resolved() -> None:
    handler = postponed(
        """
        async def handler(order: Order, region: str, n: int, msg: Message, bus: Bus):
            return order, region, n, msg, bus
        """
    )
    given = message({"n": 1})
    assert await call(handler, given) == (Order(1), "eu", 5, given, BUS)


async def test_names_of_the_calling_function_are_resolved() -> None:
    class Local(msgspec.Struct):
        n: int

    seen: list[Any] = []
    bus = Bus()

    @bus.subscribe("a")
    async def take(payload: "Local") -> None:
        seen.append(payload)

    async with bus:
        await bus.publish("a", {"n": 1})
    assert seen == [Local(1)]


def test_a_name_that_only_type_checkers_know_is_refused_with_advice() -> None:
    async def handler(price: "Decimal") -> None: ...

    with pytest.raises(ConfigError, match=r"'Decimal' is not known here.*TYPE_CHECKING"):
        read_signature(handler, parse_pattern("a"), BUS, local={})


@pytest.mark.parametrize("annotation", ["1 +", "Order.missing", "1 / 0"])
def test_an_annotation_that_cannot_be_read_is_refused(annotation: str) -> None:
    handler = postponed("async def handler(order): ...")
    handler.__annotations__["order"] = annotation
    with pytest.raises(ConfigError, match="an annotation cannot be read"):
        read(handler)


# -- where it is declared --------------------------------------------------------------------------


def test_the_decorator_returns_the_function_itself() -> None:
    async def handler(order: Order) -> None: ...

    assert Bus().subscribe("a")(handler) is handler
    assert Bus().serve("a")(handler) is handler


def test_a_subscriber_that_yields_is_refused() -> None:
    async def items(order: Order) -> AsyncIterator[int]:
        yield 1

    with pytest.raises(ConfigError, match="nobody reads what a subscriber yields"):
        Bus().subscribe("a")(items)
    Bus().serve("a")(items)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"concurrency": 0}, "concurrency is 0"),
        ({"max_queue": 0}, "max_queue is 0"),
        ({"overflow": "wait"}, "unknown overflow policy 'wait'"),
        ({"group": ""}, "group's name is empty"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Bus().subscribe("a", **options)
    with pytest.raises(ConfigError, match=text):
        Bus().serve("a", **options)


async def test_what_no_payload_becomes_is_refused_where_it_is_declared() -> None:
    with pytest.raises(ConfigError, match="is no type of payload"):

        @Bus().subscribe("a")
        async def handle(call: Callable[[], int]) -> None: ...

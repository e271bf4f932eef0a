"""The shortest way from an envelope to a handler."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hms_bus.bus.declarations import Declaration
from hms_bus.bus.injection import Signature
from hms_bus.bus.message import Message
from hms_bus.bus.middleware import Handler, Middleware, compose
from hms_bus.bus.subscription import Work
from hms_bus.envelope import Envelope
from hms_bus.topics import Pattern


def caller_of(declaration: Declaration, middleware: Sequence[Middleware]) -> Work:
    """Return what calls the declared handler, inside `middleware` and then its own.

    A handler that takes nothing but a typed payload and has no middleware is called without a
    `Message` (100 ns less).
    """
    signature, pattern = declaration.signature, declaration.pattern
    around = [*middleware, *declaration.middleware]
    if signature.call_payload is not None and not around and signature.payload is not Any:
        call = _payload_call(signature.call_payload, signature.payload)
        return _as_value(call) if signature.streams else call
    return _message_call(compose(around, _signature_call(signature)), pattern)


def handler_of(declaration: Declaration, middleware: Sequence[Middleware]) -> Handler:
    """Return what calls the declared handler with a message, inside `middleware` and its own."""
    around = [*middleware, *declaration.middleware]
    return compose(around, _signature_call(declaration.signature))


# Lambdas in functions of their own: there may be many thousand, and an inner function with
# annotations and the cells of its surroundings weighs three times as much.


def _payload_call(handler: Callable[[Any], Any], wanted: Any) -> Work:
    return lambda envelope, _: handler(
        envelope.data if type(envelope.data) is wanted else envelope.decode(wanted)
    )


def _signature_call(signature: Signature) -> Handler:
    async def call(message: Message) -> Any:
        result = signature.call(message)
        return result if signature.streams else await result

    return call


def _message_call(handler: Handler, pattern: Pattern) -> Work:
    def call(envelope: Envelope, reply_to: str | None) -> Awaitable[Any]:
        captures = pattern.capture(envelope.topic) if pattern.captures else None
        return handler(Message(envelope, captures=captures, reply_to=reply_to))

    return call


def _as_value(call: Callable[[Envelope, str | None], Any]) -> Work:
    """Make a call that returns an async generator awaitable, like one that returns a value."""

    async def invoke(envelope: Envelope, reply_to: str | None) -> Any:
        return call(envelope, reply_to)

    return invoke

"""Writes frames of spec/ipc.md from their neutral form, as spec/vectors/README.md describes it.

It shares nothing with `hms_bus.ipc`: two writers that agree to the byte have read the same spec.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

Content = Mapping[str, Any]


def to_frame(kind: int, content: bytes) -> bytes:
    """Return a frame with its length."""
    return number(1 + len(content), 4) + bytes([kind]) + content


def number(value: int | str, size: int, *, signed: bool = False) -> bytes:
    """Return a number of `size` bytes; one of 64 bits may be text."""
    return int(value).to_bytes(size, "big", signed=signed)


def document(value: Any) -> bytes:
    """Return JSON without white space."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def octets(spelled: Mapping[str, str]) -> bytes:
    """Return the bytes of `{"text": …}` or `{"hex": …}`."""
    return spelled["text"].encode() if "text" in spelled else bytes.fromhex(spelled["hex"])


def messages(content: Content) -> bytes:
    """Return envelopes with their address."""
    address = content["address"].encode()
    reply_to = content.get("reply_to", "").encode()
    envelopes = (octets(envelope) for envelope in content["envelopes"])
    return b"".join(
        (
            number(len(address), 2),
            number(len(reply_to), 2),
            address,
            reply_to,
            *(number(len(envelope), 4) + envelope for envelope in envelopes),
        )
    )


def _json(content: Content) -> bytes:
    return document(content["json"])


def _eight(content: Content) -> bytes:
    return bytes.fromhex(content["bytes"])


def _messages(content: Content) -> bytes:
    return messages(content["messages"])


def _call(content: Content) -> bytes:
    return number(content["call"], 4)


def _call_and_json(content: Content) -> bytes:
    return _call(content) + _json(content)


def _call_and_messages(content: Content) -> bytes:
    return _call(content) + _messages(content)


def _subscriptions(content: Content) -> bytes:
    numbers: list[int] = content["subscriptions"]
    return number(len(numbers), 2) + b"".join(number(each, 4) for each in numbers)


def _deliver(content: Content) -> bytes:
    return _subscriptions(content) + _messages(content)


def _offer(content: Content) -> bytes:
    return number(content["ask"], 4) + _deliver(content)


def _verdict(content: Content) -> bytes:
    return number(content["ask"], 4) + number(content["accepted"], 1) + _json(content)


def _returned(content: Content) -> bytes:
    return number(content["reason"], 1) + _messages(content)


def _done(content: Content) -> bytes:
    return _call(content) + number(content["window"], 4)


def _window(content: Content) -> bytes:
    return number(content["window"], 4) + _address(content)


def _address(content: Content) -> bytes:
    return content["address"].encode()


def _append(content: Content) -> bytes:
    blocks = [_messages(entry) for entry in content["entries"]]
    return b"".join(
        (
            _call(content),
            number(content["flags"], 1),
            number(content["expect"], 8, signed=True),
            *(number(len(block), 4) + block for block in blocks),
        )
    )


def _receipts(content: Content) -> bytes:
    return b"".join(
        _call(entry) + number(entry["position"], 8) + number(entry["flags"], 1)
        for entry in content["entries"]
    )


def _records(content: Content) -> bytes:
    parts = [_call(content)]
    for entry in content["entries"]:
        envelope = octets(entry["envelope"])
        parts += (number(entry["position"], 8), number(entry["recorded"], 8))
        parts += (number(len(envelope), 4), envelope)
    return b"".join(parts)


def _fetch(content: Content) -> bytes:
    return _call(content) + number(content["consumer"], 4) + number(content["limit"], 4)


def _deliveries(content: Content) -> bytes:
    parts = [_call(content), number(content["more"], 1)]
    for entry in content["entries"]:
        envelope = octets(entry["envelope"])
        parts += (number(entry["position"], 8), number(entry["recorded"], 8))
        parts += (number(entry["attempt"], 4), number(len(envelope), 4), envelope)
    return b"".join(parts)


def _settle(content: Content) -> bytes:
    parts = [_call(content), number(content["consumer"], 4)]
    for entry in content["entries"]:
        code, reason = entry["code"].encode(), entry["reason"].encode()
        parts += (number(entry["position"], 8), number(entry["attempt"], 4))
        parts += (number(entry["outcome"], 1), number(entry["delay"], 8))
        parts += (number(len(code), 2), code, number(len(reason), 2), reason)
    return b"".join(parts)


def _release(content: Content) -> bytes:
    return _call(content) + number(content["consumer"], 4) + number(content["flags"], 1)


def _more(content: Content) -> bytes:
    return _call(content) + number(content["count"], 4)


def _unsubscribe(content: Content) -> bytes:
    return _call(content) + number(content["subscription"], 4)


def _credit(content: Content) -> bytes:
    return b"".join(
        number(entry[name], 4)
        for entry in content["entries"]
        for name in ("subscription", "credit", "handled")
    )


def _answer(content: Content) -> bytes:
    return _call(content) + number(content["more"], 1) + _json(content)


KINDS: Mapping[str, tuple[int, Callable[[Content], bytes]]] = {
    "HELLO": (0x01, _json),
    "WELCOME": (0x02, _json),
    "ERROR": (0x03, _json),
    "PING": (0x04, _eight),
    "PONG": (0x05, _eight),
    "BYE": (0x06, _json),
    "PUBLISH": (0x10, _messages),
    "CALL": (0x11, _call_and_messages),
    "DELIVER": (0x12, _deliver),
    "OFFER": (0x13, _offer),
    "VERDICT": (0x14, _verdict),
    "RETURNED": (0x15, _returned),
    "DONE": (0x16, _done),
    "FAILED": (0x17, _call_and_json),
    "WINDOW": (0x18, _window),
    "FORGET": (0x19, _address),
    "APPEND": (0x20, _append),
    "RECEIPTS": (0x21, _receipts),
    "READ": (0x22, _call_and_json),
    "RECORDS": (0x23, _records),
    "END": (0x24, _call),
    "STOP": (0x25, _call),
    "MORE": (0x26, _more),
    "CONSUME": (0x27, _call_and_json),
    "FETCH": (0x28, _fetch),
    "DELIVERIES": (0x29, _deliveries),
    "SETTLE": (0x2A, _settle),
    "RELEASE": (0x2B, _release),
    "SUBSCRIBE": (0x30, _call_and_json),
    "UNSUBSCRIBE": (0x31, _unsubscribe),
    "CREDIT": (0x32, _credit),
    "GONE": (0x33, _address),
    "ASK": (0x40, _call_and_json),
    "ANSWER": (0x41, _answer),
}


def write(kind: str, content: Content) -> bytes:
    """Return the frame of a kind with its content."""
    number_of_kind, to_bytes = KINDS[kind]
    return to_frame(number_of_kind, to_bytes(content))

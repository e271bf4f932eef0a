"""Crypto-shredding: personal fields are sealed with a key per subject that lives outside the log.

In the payload, a sealed field is an object with `$sealed` (1, the version of this form), `subject`
(the name of the field that says whose it is), `key` (its id) and `box`: base64 of a 12-byte nonce
and what AES-256-GCM makes of the field's JSON text. The associated data is the JSON array of event
type, field, the subject's field and the subject, so that a box fits its place in an event about its
subject only. Deleting the key leaves the log as it is: the hash chain stays sound.
"""

import base64
import binascii
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn, cast

import msgspec
from msgspec import Struct

from hms_bus import payload
from hms_bus.envelope import Envelope
from hms_bus.errors import ConfigError, DecodeError, EncodeError
from hms_bus.sourcing.events import event_type
from hms_bus.sourcing.keys import Key, Keys
from hms_bus.sourcing.personal import Shredded, personal_fields, wire_names

_FORM = "$sealed"
_VERSION = 1
_NONCE_BYTES = 12
_NO_KEYS: Mapping[str, Key] = {}


class Sealed(Struct, frozen=True, kw_only=True):
    """One sealed field, as it stands in a payload; `subject` names the field that holds it."""

    subject: str
    key: str
    box: str
    version: int = msgspec.field(default=_VERSION, name=_FORM)


class Vault:
    """Seals and opens personal events with the keys of `keys`. Raises `ConfigError`: extra missing.

    Keys are asked for with every batch and not kept, so what one process forgets is unreadable to
    all others from their next read on.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._cipher = _cipher()

    async def forget(self, subject: str) -> bool:
        """Delete the subject's key: all that it sealed reads as `Shredded` from now on.

        Returns whether there was a key. What is sealed for the subject later gets a new one.
        """
        return await self._keys.forget(subject)

    async def seal(self, events: Sequence[object]) -> list[object]:
        """Return what to publish for `events`: those without personal fields as they are.

        Raises `EncodeError` for an event whose subject is no text or is empty.
        """
        subjects = {_subject(event) for event in events if personal_fields(type(event))}
        keys = await self._keys.provide(subjects) if subjects else _NO_KEYS
        return [self._sealed(event, keys) for event in events]

    async def unseal(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Return the envelopes with their payloads opened, `Shredded` where the key is gone.

        Those without sealed fields are returned as they are. Raises `DecodeError` for a box that
        its key does not open: it was changed, or stands in a wrong place or an event about somebody
        else.
        """
        found = [_sealed_fields(envelope) for envelope in envelopes]
        ids = {box.key for fields in found if fields for box in fields[1].values()}
        keys = await self._keys.find(ids) if ids else _NO_KEYS
        return [
            self._opened(envelope, *fields, keys) if fields else envelope
            for envelope, fields in zip(envelopes, found, strict=True)
        ]

    def _sealed(self, event: object, keys: Mapping[str, Key]) -> object:
        cls = type(event)
        what = personal_fields(cls)
        if what is None:
            return event
        subject = _subject(event)
        values: dict[str, Any] = payload.to_builtins(event)
        names = wire_names(cls)
        kind = event_type(cls)
        of = names[what.subject]
        values[of] = subject  # also where the class leaves out what is its default
        for wire_name in (names[name] for name in what.fields):
            if wire_name in values:
                text = payload.to_json(values[wire_name])
                place = payload.to_json([kind, wire_name, of, subject])
                box = self._close(text, keys[subject], place)
                values[wire_name] = Sealed(subject=of, key=keys[subject].id, box=box)
        return _payload_class(kind)(values)

    def _close(self, text: bytes, key: Key, place: bytes) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        box = nonce + self._cipher(key.secret).encrypt(nonce, text, place)
        return base64.b64encode(box).decode()

    def _opened(
        self,
        envelope: Envelope,
        data: dict[str, Any],
        boxes: dict[str, Sealed],
        keys: Mapping[str, Key],
    ) -> Envelope:
        opened: dict[str, Any] = dict(data)
        for name, box in boxes.items():
            key, subject = keys.get(box.key), data[box.subject]
            place = payload.to_json([envelope.type, name, box.subject, subject])
            opened[name] = (
                Shredded(subject) if key is None else self._open(envelope, name, box, key, place)
            )
        return envelope.replace(data=opened)

    def _open(self, envelope: Envelope, name: str, box: Sealed, key: Key, place: bytes) -> Any:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

        try:
            content = base64.b64decode(box.box, validate=True)
            nonce, closed = content[:_NONCE_BYTES], content[_NONCE_BYTES:]
            text = self._cipher(key.secret).decrypt(nonce, closed, place)
            return msgspec.json.decode(text)
        except (InvalidTag, ValueError, binascii.Error) as error:
            raise DecodeError(
                f"the sealed field {name!r} is not what was sealed there, or is about another "
                f"{box.subject!r}",
                reason="payload",
                field=f"$.{name}",
                topic=envelope.topic,
                type=envelope.type,
            ) from error


def check_vault(classes: Iterable[type], vault: Vault | None) -> None:
    """Check that there is a vault if one of `classes` is personal. Raises `ConfigError`."""
    for cls in classes:
        if vault is None and personal_fields(cls):
            raise ConfigError(f"{cls.__name__} has personal fields: pass vault=Vault(keys)")


def _subject(event: object) -> str:
    what = personal_fields(type(event))
    subject = getattr(event, what.subject) if what else None
    if not isinstance(subject, str) or not subject:
        raise EncodeError(
            f"the subject of {type(event).__name__} is {subject!r}, not a text", field="data"
        )
    return subject


def _sealed_fields(envelope: Envelope) -> tuple[dict[str, Any], dict[str, Sealed]] | None:
    if type(envelope.data) is msgspec.Raw and _FORM.encode() not in bytes(envelope.data):
        return None
    data = _builtins(envelope)
    if data is None:
        return None
    boxes = {
        name: _read_box(envelope, name, cast("dict[str, Any]", value), data)
        for name, value in data.items()
        if isinstance(value, dict) and _FORM in value
    }
    return (data, boxes) if boxes else None


def _builtins(envelope: Envelope) -> dict[str, Any] | None:
    if envelope.datacontenttype is not None and not payload.is_json(envelope.datacontenttype):
        return None
    data = envelope.decode()
    return cast("dict[str, Any]", data) if isinstance(data, dict) else None


def _read_box(envelope: Envelope, name: str, value: dict[str, Any], data: dict[str, Any]) -> Sealed:
    try:
        box = msgspec.convert(value, Sealed)
    except msgspec.ValidationError as error:
        _refuse(envelope, name, str(error), error)
    if box.version != _VERSION:
        _refuse(envelope, name, f"version {box.version}, known is {_VERSION}", None)
    if not isinstance(data.get(box.subject), str):
        _refuse(envelope, name, f"there is no text in its subject's field {box.subject!r}", None)
    return box


def _refuse(envelope: Envelope, name: str, why: str, cause: Exception | None) -> NoReturn:
    raise DecodeError(
        f"the field {name!r} is sealed in an unknown form: {why}",
        reason="payload",
        field=f"$.{name}",
        topic=envelope.topic,
        type=envelope.type,
    ) from cause


@lru_cache(maxsize=1024)
def _payload_class(kind: str) -> type:
    """Return a class whose instances are published as the mapping that they hold, called `kind`."""
    return type(
        "SealedPayload",
        (dict,),
        {"__event_type__": kind, "__doc__": "A payload with sealed fields."},
    )


def _cipher() -> Callable[[bytes], Any]:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            "a vault needs the extra crypto: pip install 'hms-bus[crypto]'"
        ) from error
    return AESGCM

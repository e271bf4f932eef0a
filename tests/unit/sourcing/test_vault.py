"""Sealing personal fields, and opening them as long as there is a key."""

import sys
from typing import Any

import pytest
from msgspec import Raw, Struct, json

from hms_bus import Envelope, new_envelope
from hms_bus.errors import ConfigError, DecodeError, EncodeError
from hms_bus.payload import to_json
from hms_bus.sourcing import MemoryKeys, Shredded, Vault, personal
from hms_bus.sourcing.events import EventTypes
from tests.support.sourced import Moved, Registered

Fields = dict[str, Any]
ANN = Registered(customer="ann", email="ann@example.org", address={"city": "Ulm"})
TYPES = EventTypes([Registered, Moved])


async def stored(vault: Vault, event: object) -> Envelope:
    """Return the envelope of `event` as a log gives it."""
    [sealed] = await vault.seal([event])
    envelope = new_envelope("customers.1", sealed, source="/test")
    return envelope.replace(data=Raw(to_json(sealed)))


async def read(vault: Vault, envelope: Envelope) -> object:
    [opened] = await vault.unseal([envelope])
    return TYPES.read(opened)


async def test_marked_fields_are_sealed_and_the_others_are_readable_by_all() -> None:
    envelope = await stored(Vault(MemoryKeys()), ANN)
    document = bytes(envelope.data)
    assert b"example.org" not in document
    assert b"Ulm" not in document
    assert envelope.type == "Registered"
    assert envelope.decode(Fields)["customer"] == "ann"
    assert envelope.decode(Fields)["newsletter"] is False
    assert set(envelope.decode(Fields)["email"]) == {"$sealed", "subject", "key", "box"}


async def test_what_was_sealed_is_read_as_it_was() -> None:
    vault = Vault(MemoryKeys())
    assert await read(vault, await stored(vault, ANN)) == ANN


async def test_without_its_key_a_field_is_shredded_and_the_others_remain() -> None:
    vault = Vault(MemoryKeys())
    envelope = await stored(vault, ANN)
    assert await vault.forget("ann") is True
    gone = Shredded("ann")
    read_again = await read(vault, envelope)
    assert read_again == Registered(customer="ann", email=gone, address=gone, newsletter=False)
    assert not gone
    assert str(gone) == "(shredded)"
    assert await vault.forget("ann") is False


async def test_forgetting_one_subject_leaves_the_others() -> None:
    vault = Vault(MemoryKeys())
    bob = Registered(customer="bob", email="bob@example.org")
    envelopes = [await stored(vault, ANN), await stored(vault, bob)]
    await vault.forget("ann")
    opened = await vault.unseal(envelopes)
    assert TYPES.read(opened[0]).email == Shredded("ann")
    assert TYPES.read(opened[1]) == bob


async def test_who_comes_back_gets_a_new_key_and_the_old_payloads_stay_shredded() -> None:
    vault = Vault(MemoryKeys())
    before = await stored(vault, ANN)
    await vault.forget("ann")
    after = await stored(vault, ANN)
    opened = await vault.unseal([before, after])
    assert TYPES.read(opened[0]).email == Shredded("ann")
    assert TYPES.read(opened[1]) == ANN


async def test_one_text_is_sealed_to_another_box_each_time() -> None:
    vault = Vault(MemoryKeys())
    one, other = [(await stored(vault, ANN)).decode(Fields)["email"]["box"] for _ in range(2)]
    assert one != other


async def test_old_versions_are_lifted_whether_shredded_or_not() -> None:
    vault = Vault(MemoryKeys())

    @personal("who")
    class Old(Struct):
        __event_type__ = "Moved"

        who: str
        city: str

    envelope = await stored(vault, Old(who="ann", city="Ulm"))
    assert envelope.type == "Moved"
    assert await read(vault, envelope) == Moved("ann", "Ulm")
    await vault.forget("ann")
    assert await read(vault, envelope) == Moved("ann", Shredded("ann"))


async def test_a_whole_payload_is_sealed_but_for_the_subject() -> None:
    envelope = await stored(Vault(MemoryKeys()), Moved("ann", "Ulm"))
    assert b"Ulm" not in bytes(envelope.data)
    assert envelope.decode(Fields)["customer"] == "ann"


async def test_fields_are_sealed_by_the_names_that_they_have_in_the_payload() -> None:
    @personal("customerId")
    class Wrong(Struct):
        customerId: str  # noqa: N815 - as a foreign schema has it
        city: str

    @personal("customer_id")
    class Renamed(Struct, rename="camel"):
        customer_id: str
        home_town: str

    assert Wrong("a", "b").customerId == "a"
    vault = Vault(MemoryKeys())
    envelope = await stored(vault, Renamed("ann", "Ulm"))
    assert b"Ulm" not in bytes(envelope.data)
    [opened] = await vault.unseal([envelope])
    assert EventTypes([Renamed]).read(opened) == Renamed("ann", "Ulm")
    await vault.forget("ann")
    [opened] = await vault.unseal([envelope])
    assert EventTypes([Renamed]).read(opened).home_town == Shredded("ann")


@pytest.mark.parametrize("field", ["email", "address"])
async def test_a_box_fits_its_own_place_only(field: str) -> None:
    vault = Vault(MemoryKeys())
    data = (await stored(vault, ANN)).decode(Fields)
    data["email"], data["address"] = data["address"], data["email"]
    envelope = new_envelope("a", Raw(json.encode(data)), source="/test", type="Registered")
    with pytest.raises(DecodeError, match="not what was sealed") as caught:
        await vault.unseal([envelope])
    assert caught.value.field in {"$.email", "$.address"}
    assert caught.value.type == "Registered"


@pytest.mark.parametrize("customer", ["bob", 7, None])
@pytest.mark.parametrize("box", [{}, {"subject": "note"}, {"subject": "nothing"}])
async def test_a_box_fits_an_event_about_its_subject_only(customer: object, box: Fields) -> None:
    vault = Vault(MemoryKeys())
    data = (await stored(vault, ANN)).decode(Fields)
    data |= {"customer": customer, "note": "ann", "address": None}
    data["email"] |= box
    envelope = new_envelope("a", Raw(json.encode(data)), source="/test", type="Registered")
    with pytest.raises(DecodeError, match="email"):
        await vault.unseal([envelope])


async def test_the_subject_is_written_though_it_is_a_default() -> None:
    @personal("customer")
    class Guest(Struct, omit_defaults=True):
        city: str
        customer: str = "guest"

    vault = Vault(MemoryKeys())
    [opened] = await vault.unseal([await stored(vault, Guest("Ulm"))])
    assert EventTypes([Guest]).read(opened) == Guest("Ulm", "guest")


@pytest.mark.parametrize(
    "change",
    [
        {"box": "AAAA"},
        {"box": "no base64!"},
        {"$sealed": 2},
        {"box": 7},
        {"subject": "bob"},
    ],
)
async def test_a_changed_box_is_refused(change: dict[str, object]) -> None:
    vault = Vault(MemoryKeys())
    data = (await stored(vault, ANN)).decode(Fields)
    data["email"] |= change
    envelope = new_envelope("a", Raw(json.encode(data)), source="/test", type="Registered")
    with pytest.raises(DecodeError, match="email"):
        await vault.unseal([envelope])


async def test_events_without_personal_fields_pass_as_they_are() -> None:
    vault = Vault(MemoryKeys())
    event = {"any": "thing"}
    [sealed] = await vault.seal([event])
    assert sealed is event
    envelopes = [
        new_envelope("a", data, source="/test") for data in (event, b"\0", "text", [1], Raw(b"7"))
    ]
    assert await vault.unseal(envelopes) == envelopes


@pytest.mark.parametrize("subject", ["", 7])
async def test_a_subject_is_a_text(subject: object) -> None:
    with pytest.raises(EncodeError, match="subject"):
        await Vault(MemoryKeys()).seal([Registered(customer=subject, email="x")])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("subject", "fields"),
    [("nobody", None), ("customer", ["nothing"]), ("customer", []), ("email", ["email"])],
)
def test_what_is_marked_must_be_there(subject: str, fields: list[str] | None) -> None:
    class Fresh(Struct):
        customer: str
        email: str

    with pytest.raises(ConfigError):
        personal(subject, fields=fields)(Fresh)


async def test_what_a_subclass_adds_is_sealed_unless_fields_were_named() -> None:
    @personal("customer")
    class All(Struct):
        customer: str
        city: str

    class More(All):
        phone: str

    @personal("customer", fields=["city"])
    class Named(All):
        phone: str

    vault = Vault(MemoryKeys())
    data = (await stored(vault, More("ann", "Ulm", "0731"))).decode(Fields)
    assert isinstance(data["phone"], dict)
    data = (await stored(vault, Named("ann", "Ulm", "0731"))).decode(Fields)
    assert (data["phone"], type(data["city"])) == ("0731", dict)


def test_a_payload_without_names_cannot_be_sealed() -> None:
    class Row(Struct, array_like=True):
        customer: str
        city: str

    with pytest.raises(ConfigError, match="array_like"):
        personal("customer")(Row)


def test_only_classes_with_fields_are_marked() -> None:
    with pytest.raises(ConfigError, match="neither"):
        personal("a")(int)


def test_a_vault_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(ConfigError, match=r"hms-bus\[crypto\]"):
        Vault(MemoryKeys())

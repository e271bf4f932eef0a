"""Which part of a source tells the instance."""

import pytest

from hms_bus.replay.instances import without_instance


@pytest.mark.parametrize(
    ("source", "agent"),
    [
        ("/agents/reader-3", "/agents/reader"),
        ("/agents/program/1f6a09c3", "/agents/program"),
        ("/agents/program/01985b2e-7a3c-7000-8000-3b6c0a7f51d2", "/agents/program"),
        ("/agents/reader#2", "/agents/reader"),
        ("/host:7/reader-12", "/host:7/reader"),
        ("/pool/4/11", "/pool"),
        ("/agents/reader", "/agents/reader"),
        ("/agents/reader-3b", "/agents/reader-3b"),
        ("/agents/gpt-4o", "/agents/gpt-4o"),
        ("/agents/reader3", "/agents/reader3"),
        ("https://example.org/shop", "https://example.org/shop"),
        ("/7", "/7"),
        ("7", "7"),
    ],
)
def test_the_instance_is_left_out(source: str, agent: str) -> None:
    assert without_instance(source) == agent

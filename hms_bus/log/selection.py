"""A selector, checked and prepared: which topics, which documents, which envelopes it wants."""

from collections.abc import Callable

from msgspec import Struct

from hms_bus.abc import Selector
from hms_bus.envelope import Envelope
from hms_bus.logrules import check_selector, json_text


class Selection(Struct, frozen=True, kw_only=True):
    """A checked selector.

    `wants_topic` is `None` when every topic will do. `fragments` are groups of texts; a document
    that is wanted holds one text of every group, in the form in which this package writes it
    (spec/log.md): a cheap test that lets too much through, never too little. `is_wanted` is exact.
    """

    selector: Selector
    wants_topic: Callable[[str], bool] | None
    fragments: tuple[tuple[str, ...], ...]

    def is_wanted(self, envelope: Envelope) -> bool:
        """Whether type, correlation and source are the selected ones."""
        selector = self.selector
        return not self.fragments or (
            (not selector.types or envelope.type in selector.types)
            and selector.correlation in (None, envelope.correlationid)
            and selector.source in (None, envelope.source)
        )


def prepare(selector: Selector, *, follow: bool = False, where: str = "a log") -> Selection:
    """Check `selector`; raises what `hms_bus.logrules.check_selector` raises."""
    pattern = check_selector(selector, follow=follow, where=where)
    return Selection(
        selector=selector,
        wants_topic=None if pattern is None else pattern.matches,
        fragments=tuple(_fragments(selector)),
    )


def _fragments(selector: Selector) -> list[tuple[str, ...]]:
    groups: list[tuple[str, ...]] = []
    if selector.types:
        groups.append(tuple(_member("type", value) for value in sorted(selector.types)))
    if selector.correlation is not None:
        groups.append((_member("correlationid", selector.correlation),))
    if selector.source is not None:
        groups.append((_member("source", selector.source),))
    return groups


def _member(name: str, value: str) -> str:
    return f'"{name}":{json_text(name, value)}'

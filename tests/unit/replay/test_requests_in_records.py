"""Which recorded message was a request."""

import pytest

from hms_bus.replay.requests import is_request
from tests.support.runs import answered, said

SOON = "2026-01-31T12:00:00Z"


@pytest.mark.parametrize("unsure", [True, False])
def test_one_that_has_an_answer_or_asks_for_a_stream_is_one(*, unsure: bool) -> None:
    request = said("ask", expirytime=SOON)
    caused = [said("news", cause=request), answered(request, 1, by="/agents/b")]
    assert is_request(request, caused, unsure=unsure)
    assert is_request(said("ask").replace(credit=1), (), unsure=unsure)
    assert not is_request(said("event"), [said("news")], unsure=unsure)


def test_a_deadline_alone_leaves_it_open() -> None:
    assert is_request(said("ask", expirytime=SOON), (), unsure=True)
    assert not is_request(said("ask", expirytime=SOON), (), unsure=False)

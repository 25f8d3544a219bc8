"""Properties tried on examples that Hypothesis draws: the same ones in each run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy


def refusal_of(call: Callable[[], Any], kind: type[Exception] = ValueError) -> str | None:
    """Return how a call is refused; None if it is not."""
    try:
        call()
    except kind as error:
        return str(error)
    return None


def few_or_many(few: int, many: int) -> pytest.MarkDecorator:
    """Run a test with ``examples`` few in `make test` and many in `make torture`."""
    return pytest.mark.parametrize(
        'examples', [pytest.param(few, id='few'), pytest.param(many, id='many', marks=pytest.mark.slow)]
    )


def explore(check: Callable[[Any], None], cases: SearchStrategy[Any], examples: int) -> None:
    """Call a check on examples, and on simpler ones where it fails."""
    settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
    )(given(cases)(check))()

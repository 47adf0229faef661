"""Errors that come from another process."""

import pytest

from prefopt import errors
from prefopt.errors import PrefoptError, error_as_json, error_from_json

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PrefoptError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_as_what_it_was(kind: type[PrefoptError]) -> None:
    found = error_from_json(error_as_json(kind("what, where, what to do")))
    assert type(found) is kind
    assert str(found) == "what, where, what to do"

"""Which process of `wsd dev` serves, and when another one follows."""

import pytest

from wsd.supervisor.dev.replacement import (
    Changed,
    Effect,
    Ended,
    Fact,
    Kill,
    Loaded,
    Release,
    Released,
    Serve,
    Situation,
    Start,
    step,
)

FIRST: list[Fact] = [Changed(), Loaded(1)]
REPLACED: list[Fact] = [*FIRST, Changed(), Loaded(2)]


@pytest.mark.parametrize(
    ("facts", "effects"),
    [
        pytest.param(FIRST, [Start(1), Serve(1)], id="the first process serves once it is loaded"),
        pytest.param([*REPLACED, Released(1)], [Start(2), Release(1), Serve(2)], id="a change"),
        pytest.param([*REPLACED, Ended(1)], [Start(2), Release(1), Serve(2)], id="the old one dies in the release"),
        pytest.param([*FIRST, Changed(), Ended(2)], [Start(2)], id="the new one cannot be loaded"),
        pytest.param([*FIRST, Changed(), Ended(2), Changed()], [Start(2), Start(3)], id="the next change is tried"),
        pytest.param([*FIRST, Changed(), Changed()], [Start(2), Kill(2), Start(3)], id="a change before it is loaded"),
        pytest.param([*FIRST, Changed(), Changed(), Loaded(2)], [Start(2), Kill(2), Start(3)], id="the outdated loads"),
        pytest.param(
            [*REPLACED, Changed(), Changed(), Released(1)],
            [Start(2), Release(1), Serve(2), Start(3)],
            id="changes during the release count after it",
        ),
        pytest.param(
            [*REPLACED, Ended(2), Released(1)], [Start(2), Release(1), Start(3)], id="the new one dies in the release"
        ),
        pytest.param([*FIRST, Ended(1)], [], id="it dies soon, and waits for a change"),
        pytest.param([*FIRST, Ended(1, can_be_repeated=True)], [Start(2)], id="it dies late"),
        pytest.param(
            [*FIRST, Changed(), Ended(1, can_be_repeated=True), Loaded(2)],
            [Start(2), Serve(2)],
            id="it dies while the new one loads",
        ),
        pytest.param([*REPLACED, Released(1), Ended(1)], [Start(2), Release(1), Serve(2)], id="its end is no news"),
    ],
)
def test_what_is_done(facts: list[Fact], effects: list[Effect]) -> None:
    situation, done = Situation(), []
    for fact in facts:
        situation, more = step(situation, fact)
        done += more
    expected = effects if facts == FIRST else [Start(1), Serve(1), *effects]
    assert done == expected

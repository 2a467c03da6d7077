import msgspec
import pytest

from wsd.supervisor.config.settings import ChannelConfig
from wsd.worker.channels.options import ChannelOptions, ChannelRules

RULES = ChannelRules(
    '{"*": {}, "room:*": {"history_size": 5}, "room:*:log": {"history_size": 0}, "news": {"receipts": true}}'
)


@pytest.mark.parametrize(
    ("channel", "options"),
    [
        ("other", ChannelOptions()),
        ("room:1", ChannelOptions(history_size=5)),
        ("room:1:log", ChannelOptions(history_size=0)),
        ("room:", ChannelOptions(history_size=5)),
        ("broom:1", ChannelOptions()),
        ("news", ChannelOptions(receipts=True)),
        ("newsroom", ChannelOptions()),
    ],
)
def test_of_all_patterns_that_match_the_most_exact_holds(channel: str, options: ChannelOptions) -> None:
    assert RULES.of(channel) == options


def test_without_rules_the_defaults_hold() -> None:
    assert ChannelRules().of("any") == ChannelOptions()


def test_a_channel_named_as_an_expression_is_no_expression() -> None:
    assert ChannelRules('{"a.b": {"history_size": 1}}').of("axb") == ChannelOptions()


def test_a_worker_alone_has_the_defaults_of_a_cluster() -> None:
    assert msgspec.structs.asdict(ChannelOptions()) == msgspec.structs.asdict(ChannelConfig())


def test_text_that_is_not_a_set_of_rules_is_refused() -> None:
    with pytest.raises(ValueError, match="history_sise"):
        ChannelRules('{"*": {"history_sise": 1}}')

"""What `wsd doctor` says about what clients may do, and the rules that `wsd init` proposes."""

import re
from pathlib import Path

import pytest

from wsd.supervisor.config.loading import load
from wsd.supervisor.config.settings import Config
from wsd.supervisor.doctor.permissions import permissions
from wsd.supervisor.monitoring.finding import Grade
from wsd.supervisor.new_files import settings

PUBLIC = '[cluster]\nhost = "0.0.0.0"\n'
AUTHENTICATED = '[security]\njwt_secret = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"\n'
CLOSED = '[channels."*"]\nallow_publish = "server"\n'


def config(directory: Path, text: str) -> Config:
    path = directory / "wsd.toml"
    path.write_text(text)
    return load({}, {}, str(path)).config


def found(directory: Path, text: str) -> tuple[Grade, str]:
    (finding,) = permissions(config(directory, text))
    return finding.grade, finding.found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "",
            "everybody who can connect, under any name, may subscribe to every channel, publish in every channel, "
            "send broadcasts and send direct messages to every user",
        ),
        (
            AUTHENTICATED,
            "every user may subscribe to every channel, publish in every channel, send broadcasts and send direct "
            "messages to every user",
        ),
        (CLOSED, "everybody who can connect, under any name, may subscribe to every channel"),
        (
            '[security]\nclient_broadcasts = false\nclient_directs = false\n[channels."log"]\nallow_publish = "nobody"',
            "everybody who can connect, under any name, may subscribe to every channel and publish in every channel "
            "except log",
        ),
        (
            AUTHENTICATED
            + CLOSED
            + '[channels."direct"]\nallow_publish = "anyone"\n[channels."chat:*"]\nallow_publish = "authenticated"\n',
            "every user may subscribe to every channel, publish in chat:* and send direct messages to every user",
        ),
        (
            AUTHENTICATED + CLOSED + '[channels."user:{user_id}:*"]\nallow_publish = "authenticated"\n',
            "every user may subscribe to every channel except user:{user_id}:*",
        ),
        (
            CLOSED + "".join(f'[channels."{name}"]\nallow_publish = "anyone"\n' for name in "abcde"),
            "everybody who can connect, under any name, may subscribe to every channel and publish in a, b, c and 2 "
            "more",
        ),
        (
            CLOSED + 'allow_subscribe = "authenticated"\n[channels."broadcast"]\nallow_publish = "anyone"\n',
            "everybody who can connect, under any name, may send broadcasts",
        ),
        ('[channels."*"]\nallow_subscribe = "authenticated"\nallow_publish = "authenticated"\n', "no client may"),
        ('[security]\nauthorize = "chat:may"\n' + CLOSED, "where security.authorize allows it"),
    ],
)
def test_the_finding_says_what_every_client_may_do(tmp_path: Path, text: str, says: str) -> None:
    grade, finding = found(tmp_path, text)
    assert grade is Grade.OK, "only this machine can connect"
    assert says in finding
    assert says == finding or says in ("no client may", "where security.authorize allows it")


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("", Grade.WARNING),
        (AUTHENTICATED, Grade.WARNING),
        (CLOSED, Grade.OK),
        (AUTHENTICATED + CLOSED, Grade.OK),
        ('[security]\nauthorize = "chat:may"\n', Grade.OK),
        (CLOSED + '[channels."broadcast"]\nallow_publish = "anyone"\n', Grade.WARNING),
        (
            "[security]\nclient_broadcasts = false\n" + CLOSED + '[channels."broadcast"]\nallow_publish = "anyone"\n',
            Grade.OK,
        ),
        (CLOSED + '[channels."broadcast"]\nhistory_size = 5\n', Grade.OK),
    ],
)
def test_beyond_this_machine_clients_that_may_speak_to_all_are_a_warning(
    tmp_path: Path, text: str, grade: Grade
) -> None:
    assert found(tmp_path, PUBLIC + text)[0] is grade


def test_an_application_has_rules_of_its_own(tmp_path: Path) -> None:
    assert list(permissions(config(tmp_path, '[cluster]\napp = "chat:app"\n'))) == []


def test_the_rules_that_init_proposes_let_only_the_backend_publish(tmp_path: Path) -> None:
    assert config(tmp_path, settings()) == Config()
    proposed = config(tmp_path, re.sub(r"^#(?=[a\[])", "", settings(), flags=re.MULTILINE))
    assert proposed.channels["*"].allow_publish == "server"
    assert proposed.channels["*"].allow_subscribe == "anyone"
    assert proposed.channels["user:{user_id}:*"].allow_subscribe == "authenticated"
    finding = next(permissions(proposed))
    assert (
        finding.found
        == "everybody who can connect, under any name, may subscribe to every channel except user:{user_id}:*"
    )

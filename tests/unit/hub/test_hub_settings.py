"""What a hub may be told, and that every mistake is named with its file and key."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from hms_bus.errors import ConfigError
from hms_bus.hub.settings import Grant, HubLimits, HubSettings, load_settings
from tests.support.doc_blocks import parse_blocks

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "hub-security.md"

SECRET = "open-sesame-7d1f"
HASH = hashlib.sha256(SECRET.encode()).hexdigest()

FILE = f"""
listen = "ipc://shop"
log = "sqlite:shop.db"
idle_s = 5
allow_uids = [1000, 1001]

[limits]
max_clients = 10
heartbeat_s = 0.5

[[token]]
name = "till"
sha256 = "{HASH}"
publish = ["orders.>"]
subscribe = ["orders.{{region}}.created", "$SRV.>"]
durable = ["billing", "till-*", "*"]

[[token]]
name = "owner"
sha256 = "{"0" * 64}"
admin = true
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "hub.toml"
    path.write_text(FILE)
    return path


def refusal_of(path: Path, content: str) -> str:
    """The message with which a file with this content is refused."""
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    return caught.value.message


# -- what is read --------------------------------------------------------------------------------


def test_without_a_file_the_defaults_hold() -> None:
    assert load_settings() == load_settings(None) == HubSettings()
    assert HubSettings().limits == HubLimits()


def test_a_file_is_read(toml: Path) -> None:
    settings = load_settings(toml)
    assert (settings.listen, settings.log) == ("ipc://shop", "sqlite:shop.db")
    assert (settings.idle_s, settings.allow_uids) == (5.0, (1000, 1001))
    assert (settings.audit, settings.tcp) == (None, False)
    assert (settings.limits.max_clients, settings.limits.heartbeat_s) == (10, 0.5)
    assert settings.limits.max_frame == HubLimits().max_frame


def test_tokens_are_kept_as_hashes(toml: Path) -> None:
    assert load_settings(toml).tokens == (
        Grant(
            name="till",
            sha256=bytes.fromhex(HASH),
            publish=("orders.>",),
            subscribe=("orders.{region}.created", "$SRV.>"),
            durable=("billing", "till-*", "*"),
        ),
        Grant(name="owner", sha256=bytes(32), is_admin=True),
    )


def test_the_hash_may_be_written_in_capitals(toml: Path) -> None:
    toml.write_text(FILE.replace(HASH, HASH.upper()))
    assert load_settings(toml).tokens[0].sha256 == bytes.fromhex(HASH)


def test_settings_can_be_compared_and_kept_in_sets(toml: Path) -> None:
    assert len({load_settings(toml), load_settings(str(toml)), HubSettings()}) == 2


def test_arguments_win_over_the_file_key_by_key(toml: Path) -> None:
    settings = load_settings(toml, listen="ipc://other", limits={"max_clients": 3}, tcp=True)
    assert (settings.listen, settings.log, settings.tcp) == ("ipc://other", "sqlite:shop.db", True)
    assert (settings.limits.max_clients, settings.limits.heartbeat_s) == (3, 0.5)
    assert load_settings(toml, token=[]).tokens == ()


def test_an_argument_of_none_counts_as_not_given(toml: Path) -> None:
    assert load_settings(toml, listen=None, log=None, limits=None) == load_settings(toml)


def test_the_documented_file_is_complete_and_loads(tmp_path: Path) -> None:
    [example] = [block for block in parse_blocks(PAGE.read_text()) if block.title == "hub.toml"]
    file = tmp_path / "hub.toml"
    file.write_text(example.code)
    settings = load_settings(file)
    lines = {line.lstrip("# ").split(" =")[0] for line in example.code.splitlines() if " =" in line}
    keys = {*HubSettings.__struct_fields__, *HubLimits.__struct_fields__} - {"limits", "tokens"}
    assert lines == keys | {
        "name",
        "sha256",
        "publish",
        "subscribe",
        "durable",
        "admin",
    }
    assert settings.limits == HubLimits(), "the page shows the defaults"
    assert len(settings.tokens) > 1


# -- tokens in plain text ------------------------------------------------------------------------

PLAIN = f'[[token]]\nname = "till"\ntoken = "{SECRET}"\n'


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_plain_token_is_read_from_a_private_file(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "hub.toml"
    file.write_text(PLAIN)
    file.chmod(mode)
    [grant] = load_settings(file).tokens
    assert grant.sha256.hex() == HASH


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o610, 0o601])
def test_a_plain_token_in_a_file_for_others_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "hub.toml"
    file.write_text(PLAIN)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=rf"hub\.toml: .*till.*{mode:04o}.*chmod 600 {file}"):
        load_settings(file)


def test_a_file_with_hashes_may_be_read_by_all(toml: Path) -> None:
    toml.chmod(0o644)
    assert len(load_settings(toml).tokens) == 2


def test_a_plain_token_may_be_an_argument() -> None:
    [grant] = load_settings(token=[{"name": "till", "token": SECRET}]).tokens
    assert grant.sha256.hex() == HASH


def test_no_setting_shows_a_token(tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    file.write_text(PLAIN)
    file.chmod(0o600)
    assert SECRET not in repr(load_settings(file))


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,  # in a file for all
        PLAIN + f'sha256 = "{HASH}"\n',
        f'[[token]]\nname = "a"\nsha256 = "{SECRET}"\n',
        f'[[token]]\nname = "a"\ntoken = ["{SECRET}"]\n',
        f'[[token]]\nname = "a"\nsha256 = ["{SECRET}"]\n',
        f'[[token]]\ntoken = "{SECRET}"\n',
        f'[[token]]\ntokn = "{SECRET}"\n',
        f'[token]\nname = "a"\ntoken = "{SECRET}"\n',
        f'token = "{SECRET}"\n',
        f'token = ["{SECRET}"]\n',
        f'sha256 = "{SECRET}"\n',
        f'[[token]]\nname = "a"\ntoken = "{SECRET}\n',
    ],
)
def test_no_message_shows_a_token(tmp_path: Path, content: str) -> None:
    file = tmp_path / "hub.toml"
    file.touch(0o644)
    message = refusal_of(file, content)
    assert SECRET not in message
    assert "hub.toml" in message


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("lisen = 'ipc://x'", "hub.toml: unknown key 'lisen': did you mean listen?"),
        ("colour = 1", "hub.toml: unknown key 'colour'; known: listen, log, tcp, idle_s"),
        ("listen = 5", "hub.toml: listen is 5: Expected `str`, got `int`"),
        ("listen = ''", "hub.toml: listen is ''"),
        ("listen = 'direct://a'", "hub.toml: listen: 'direct://a': a hub listens at ipc://NAME"),
        ("listen = 'nats://h:4222'", "listen: 'nats://h:4222': a hub listens at ipc://NAME"),
        ("listen = 'ipc://a?idle=3s'", "listen: 'ipc://a': unknown option 'idle'; known: none"),
        ("listen = 'ipc://a/b'", "hub.toml: listen: ipc://a/b is a relative path"),
        ("listen = 'agents'", "hub.toml: listen: 'agents' is no URL"),
        ("audit = ''", "hub.toml: audit is ''"),
        ("log = 'run.db'", "hub.toml: log is 'run.db', no URL: did you mean 'sqlite:run.db'?"),
        ("tcp = 1", "hub.toml: tcp is 1"),
        ("idle_s = -1", "hub.toml: idle_s is -1"),
        ("idle_s = nan", "hub.toml: idle_s is nan"),
        ("allow_uids = [-1]", "hub.toml: allow_uids is [-1]"),
        ("allow_uids = ['bob']", "hub.toml: allow_uids is ['bob']"),
        ("limits = 5", "hub.toml: limits is 5"),
        ("[limits]\nmax_frames = 1", "[limits]: unknown key 'max_frames': did you mean max_frame?"),
        ("[limits]\nmax_frame = 1023", "hub.toml: [limits]: max_frame is 1023"),
        ("[limits]\nmax_frame = 4294967296", "[limits]: max_frame is 4294967296"),
        ("[limits]\nheartbeat_s = 0", "[limits]: heartbeat_s is 0"),
        ("[[token]]\nname = 'a'\nsha265 = ''", "'sha265': did you mean sha256?"),
        ("[[token]]\nsha256 = 'ab'", "hub.toml: [[token]] 1: name is missing"),
        ("[[token]]\nname = ''", "hub.toml: [[token]] 1: name is ''"),
        ("[[token]]\nname = 'a'", "hub.toml: [[token]] 1 ('a'): has neither sha256 nor token"),
        ("[[token]]\nname = 'a'\ntoken = ''", "[[token]] 1: token"),
        ("[[token]]\nname = 'a'\nsha256 = 'ab'", "[[token]] 1 ('a'): sha256 takes the 64 hex"),
        ("[[token]]\nname = 'a'\nadmin = 'yes'", "[[token]] 1: admin is 'yes'"),
        ("[[token]]\nname = 'a'\npublish = 'a.>'", "[[token]] 1: publish is 'a.>'"),
        (
            f"[[token]]\nname = 'a'\nsha256 = '{HASH}'\npublish = ['a..b']",
            "hub.toml: [[token]] 1 ('a'): publish: 'a..b' is no valid topic or pattern: token 2",
        ),
        (
            f"[[token]]\nname = 'a'\nsha256 = '{HASH}'\ndurable = ['a*b']",
            "[[token]] 1 ('a'): durable: 'a*b' is no name of a durable",
        ),
        (
            f"[[token]]\nname = 'a'\nsha256 = '{HASH}'\nsubscribe = ['>.a']",
            "hub.toml: [[token]] 1 ('a'): subscribe: '>.a' is no valid topic or pattern",
        ),
        (
            f"[[token]]\nname = 'a'\nsha256 = '{HASH}'\ntoken = 'x'",
            "hub.toml: [[token]] 1 ('a'): has both token and sha256",
        ),
        (
            f"[[token]]\nname='a'\nsha256='{HASH}'\n[[token]]\nname='a'\nsha256='{'1' * 64}'",
            "hub.toml: two tokens have the name 'a'",
        ),
        (
            f"[[token]]\nname='a'\nsha256='{HASH}'\n[[token]]\nname='b'\nsha256='{HASH}'",
            "hub.toml: 'a' and 'b' are the same token",
        ),
        ("listen = ", "hub.toml is no TOML"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(tmp_path: Path, content: str, told: str) -> None:
    message = refusal_of(tmp_path / "hub.toml", content)
    assert told in message
    assert str(tmp_path / "hub.toml") in message


COUNTS = [name for name in HubLimits.__struct_fields__ if name != "heartbeat_s"]


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "5"])
def test_every_limit_is_a_number_from_1(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"arguments: \[limits\]: {name} is"):
        load_settings(limits={name: value})


@pytest.mark.parametrize(
    "overrides",
    [{"lisen": "ipc://x"}, {"tcp": "yes"}, {"limits": {"max": 1}}, {"token": [{"name": "a"}]}],
)
def test_arguments_are_checked_like_a_file(overrides: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^arguments: "):
        load_settings(**overrides)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read.*missing\.toml.*No such file"):
        load_settings(tmp_path / "missing.toml")

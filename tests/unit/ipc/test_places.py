"""Where a hub is, and which folder is good enough for it."""

import os
from pathlib import Path
from urllib.parse import unquote

import pytest

from hms_bus.errors import ConfigError, ConnectError
from hms_bus.ipc.loopback import Loopback, read_loopback, write_loopback
from hms_bus.ipc.places import MAX_SOCKET_BYTES, RUNTIME_DIR, Place, find_place, prepare_folder
from hms_bus.plugins import parse_address
from tests.support.hub_places import give_away, private_place


def place_of(url: str, **environment: str) -> Place:
    return find_place(parse_address(url).path, environment=environment)


def test_the_files_of_a_name() -> None:
    place = place_of("ipc://agents", HMS_BUS_RUNTIME_DIR="/run/hubs", XDG_RUNTIME_DIR="/run/user")
    assert place == Place(
        name="agents",
        url="ipc://agents",
        has_own_folder=True,
        socket=Path("/run/hubs/agents.sock"),
        lock=Path("/run/hubs/agents.lock"),
        spawn=Path("/run/hubs/agents.spawn"),
        tcp=Path("/run/hubs/agents.tcp"),
        hub_log=Path("/run/hubs/agents.hub.log"),
    )


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"HMS_BUS_RUNTIME_DIR": "/a", "XDG_RUNTIME_DIR": "/b", "TMPDIR": "/c"}, "/a"),
        ({"HMS_BUS_RUNTIME_DIR": "", "XDG_RUNTIME_DIR": "/b", "TMPDIR": "/c"}, "/b/hms-bus"),
        ({"XDG_RUNTIME_DIR": "/b", "TMPDIR": "/c"}, "/b/hms-bus"),
        ({"XDG_RUNTIME_DIR": "", "TMPDIR": "/c"}, f"/c/hms-bus-{os.getuid()}"),
        ({}, f"/tmp/hms-bus-{os.getuid()}"),  # noqa: S108 - the name of what is checked later
    ],
)
def test_the_runtime_folder(environment: dict[str, str], folder: str) -> None:
    assert find_place("agents", environment=environment).folder == Path(folder)


def test_the_environment_is_that_of_the_process(runtime: Path) -> None:
    assert find_place("agents").folder == runtime


def test_two_urls_of_one_socket_have_the_same_files() -> None:
    named = place_of("ipc://agents", HMS_BUS_RUNTIME_DIR="/run/hubs")
    by_path = place_of("ipc:///run/hubs/agents.sock")
    for file in ("socket", "lock", "spawn", "tcp", "hub_log", "folder"):
        assert getattr(by_path, file) == getattr(named, file)
    assert by_path.name == "/run/hubs/agents.sock"
    assert not by_path.has_own_folder


def test_a_socket_may_have_any_name() -> None:
    place = place_of("ipc:///run/hubs/feed.0")
    assert place.socket == Path("/run/hubs/feed.0")
    assert place.lock == Path("/run/hubs/feed.0.lock")


@pytest.mark.parametrize("path", ["/run/what? 100%.sock", "/run/a#b.sock", "/run/größe.sock"])
def test_the_url_of_a_place_leads_to_it(path: str) -> None:
    place = find_place(path)
    assert place.socket == Path(path)
    assert find_place(parse_address(place.url).path) == place
    assert unquote(place.url) == f"ipc://{path}"


@pytest.mark.parametrize("name", ["a", "A-Z_0.9", "..", "x" * 64])
def test_good_names(name: str) -> None:
    assert find_place(name, environment={RUNTIME_DIR: "/r"}).socket == Path(f"/r/{name}.sock")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("", "ipc:// names no hub: write ipc://NAME, as in ipc://agents"),
        ("a/b.sock", "is a relative path: write a name without '/', as in ipc://agents, or an"),
        ("~/b.sock", "is a relative path"),
        ("größe", "takes 1 to 64 of A-Z a-z 0-9"),
        ("two words", "takes 1 to 64 of A-Z a-z 0-9"),
        ("x" * 65, "takes 1 to 64 of A-Z a-z 0-9"),
        ("agents\n", "takes 1 to 64 of A-Z a-z 0-9"),
        ("/", "names no socket: write the path of one, ipc:///PATH.sock"),
        ("/run/", "names no socket"),
        ("/run/..", "names no socket"),
        ("/run/.sock", "names no socket"),
        ("/run/a\0b.sock", "names no socket"),
    ],
)
def test_what_names_no_place(path: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_place(path, environment={})
    assert told in caught.value.message


@pytest.mark.parametrize("variable", ["HMS_BUS_RUNTIME_DIR", "XDG_RUNTIME_DIR", "TMPDIR"])
def test_a_relative_runtime_folder_is_refused(variable: str) -> None:
    with pytest.raises(ConfigError, match=f"{variable} is 'run': it takes an absolute path"):
        find_place("agents", environment={variable: "run"})


def test_a_path_as_long_as_the_system_allows() -> None:
    path = "/" + "x" * (MAX_SOCKET_BYTES - 1)
    assert find_place(path).socket == Path(path)


@pytest.mark.parametrize(
    ("path", "environment", "way_out"),
    [
        ("agents", {RUNTIME_DIR: "/" + "x" * 120}, f"set {RUNTIME_DIR} to a shorter folder"),
        ("/" + "x" * MAX_SOCKET_BYTES, {}, "take a shorter path"),
        ("/" + "ö" * (MAX_SOCKET_BYTES // 2) + "12", {}, "take a shorter path"),
    ],
)
def test_a_path_that_is_too_long(path: str, environment: dict[str, str], way_out: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_place(path, environment=environment)
    assert f"and the system allows {MAX_SOCKET_BYTES}" in caught.value.message
    assert way_out in caught.value.message


def test_the_runtime_folder_is_made_for_its_owner_only(runtime: Path) -> None:
    place = private_place(runtime)
    mask = os.umask(0)
    try:
        prepare_folder(place)
    finally:
        os.umask(mask)
    assert runtime.stat().st_mode & 0o777 == 0o700
    prepare_folder(place)


@pytest.mark.parametrize("mode", [0o710, 0o701, 0o740, 0o704, 0o720, 0o702, 0o777])
def test_a_folder_that_is_open_to_others_is_refused(runtime: Path, mode: int) -> None:
    runtime.mkdir()
    runtime.chmod(mode)
    with pytest.raises(ConfigError, match=rf"\(mode {mode:04o}\): chmod 700 {runtime}"):
        prepare_folder(private_place(runtime))
    assert runtime.stat().st_mode & 0o777 == mode


def test_a_folder_of_another_user_is_refused(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.mkdir(mode=0o700)
    owner = give_away(runtime, monkeypatch)
    with pytest.raises(ConfigError, match=f"belongs to user {owner}: set {RUNTIME_DIR}"):
        prepare_folder(private_place(runtime))


def test_a_link_to_a_folder_is_refused(runtime: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    runtime.symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="is a symbolic link: remove it"):
        prepare_folder(private_place(runtime))


def test_a_file_in_the_place_of_the_folder_is_refused(runtime: Path) -> None:
    runtime.touch()
    with pytest.raises(ConfigError, match="is no folder: remove it"):
        prepare_folder(private_place(runtime))


def test_a_folder_that_cannot_be_made_says_why(runtime: Path) -> None:
    with pytest.raises(ConfigError, match=f"{runtime} does not exist: mkdir -p {runtime}"):
        prepare_folder(private_place(runtime / "deeper"))
    runtime.touch()
    with pytest.raises(ConnectError, match=f"cannot be used: Not a directory; {RUNTIME_DIR} may"):
        prepare_folder(private_place(runtime / "deeper"))


def test_the_folder_of_a_path_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    prepare_folder(find_place(str(tmp_path / "a.sock")))
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_the_folder_of_a_path_must_exist() -> None:
    with pytest.raises(ConfigError, match=r"/nowhere/at/all does not exist: mkdir -p /nowhere"):
        prepare_folder(find_place("/nowhere/at/all/a.sock"))


# -- systems without users -----------------------------------------------------------------------


@pytest.fixture
def no_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what Windows does not have; it is not tested itself."""
    for name in ("getuid", "geteuid"):
        monkeypatch.delattr(os, name)


@pytest.mark.usefixtures("no_users")
def test_without_users_the_runtime_folder_is_in_that_of_the_users_programs() -> None:
    found = find_place("agents", environment={"LOCALAPPDATA": "/users/me/local"})
    assert found.socket == Path("/users/me/local/hms-bus/agents.sock")
    with pytest.raises(ConfigError, match="HMS_BUS_RUNTIME_DIR is not set"):
        find_place("agents", environment={})


@pytest.mark.usefixtures("no_users")
def test_without_users_no_folder_is_another_users(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o777)
    place = find_place("agents", environment={"HMS_BUS_RUNTIME_DIR": str(tmp_path / "run")})
    prepare_folder(place)
    told = Loopback(port=1, token="a")
    write_loopback(place.tcp, told)
    place.tcp.chmod(0o666)
    assert read_loopback(place.tcp) == told

"""The locks pin everything by hash, name no machine and agree with pyproject.toml."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))

# name==version [; marker], then hashes, one per line. No option, address or path fits in here.
_PIN = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[a-z0-9.+!]+)(?: ; [\w <>=!.'()]+)?"
    r"(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
)


def pins(lock: Path) -> dict[str, set[str]]:
    """The versions of each distribution; several when a marker tells them apart."""
    found: dict[str, set[str]] = {}
    for pin in _PIN.finditer(lock.read_text()):
        found.setdefault(pin["name"], set()).add(pin["version"])
    return found


def requirements(*keys: str) -> list[Requirement]:
    value: Any = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for key in keys:
        value = value[key]
    return [Requirement(line) for line in value if isinstance(line, str)]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_holds_pins_with_hashes_and_nothing_else(lock: Path) -> None:
    assert _PIN.sub("", lock.read_text()) == ""


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
@pytest.mark.parametrize("sign", ["http", "file:", "/", "@"])
def test_a_lock_holds_no_address_and_no_path(lock: Path, sign: str) -> None:
    assert sign not in lock.read_text()


@pytest.mark.parametrize(
    ("lock", "keys"),
    [
        ("runtime", ("project", "dependencies")),
        ("runtime", ("build-system", "requires")),
        ("runtime", ("dependency-groups", "build")),
        ("dev", ("project", "optional-dependencies", "pydantic")),
        ("dev", ("project", "optional-dependencies", "uvloop")),
        ("dev", ("dependency-groups", "dev")),
        ("bench", ("dependency-groups", "bench")),
        ("autogen", ("dependency-groups", "autogen")),
    ],
    ids=lambda value: value if isinstance(value, str) else ".".join(value),
)
def test_a_lock_satisfies_pyproject(lock: str, keys: tuple[str, ...]) -> None:
    locked = pins(ROOT / "requirements" / f"{lock}.txt")
    for requirement in requirements(*keys):
        versions = locked[canonicalize_name(requirement.name)]
        assert all(map(requirement.specifier.contains, versions)), str(requirement)


@pytest.mark.parametrize("lock", ["runtime", "bench"])
def test_locks_of_one_environment_agree(lock: str) -> None:
    dev = pins(ROOT / "requirements" / "dev.txt")
    other = pins(ROOT / "requirements" / f"{lock}.txt")
    shared = dev.keys() & other.keys()
    assert {name: other[name] for name in shared} == {name: dev[name] for name in shared}


def test_the_development_lock_holds_all_that_the_library_needs() -> None:
    runtime = pins(ROOT / "requirements" / "runtime.txt")
    assert runtime.keys() <= pins(ROOT / "requirements" / "dev.txt").keys()

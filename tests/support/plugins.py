"""Installs a distribution with entry points, the way in which a third party adds a plug-in."""

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hms_bus import plugins


def install_plugins(folder: Path, entry_points: Mapping[str, Mapping[str, str]]) -> None:
    """Make `folder` hold an installed distribution; it still has to be on `sys.path`.

    `entry_points` maps groups (`hms_bus.logs`) to names and their targets (`module:function`).
    """
    metadata = folder / "plugins_of_a_test-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: plugins-of-a-test\nVersion: 1.0\n"
    )
    lines: list[str] = []
    for group, targets in entry_points.items():
        lines.append(f"[{group}]")
        lines += [f"{name} = {target}" for name, target in targets.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")


@contextmanager
def plugged_in(folder: Path, kind: plugins.Kind, **targets: str) -> Generator[None]:
    """Have plug-ins of this `kind`, by their names, installed in `folder` as long as the scope."""
    install_plugins(folder, {f"hms_bus.{kind}": targets})
    sys.path.append(str(folder))
    try:
        # Found once per process, and here no event loop is running that the disk could hold up.
        for name in targets:
            plugins.find(kind, name)
        yield
    finally:
        sys.path.remove(str(folder))

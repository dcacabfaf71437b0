"""Names from outside: hub ids, and file names under POSIX and Windows rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from densecore.errors import ArgumentError, ModelFormatError
from densecore.models import names

HOSTILE = [
    "", "..", ".", "../x", "a/../b", "a/..", "/etc/passwd", "//server/share", "\\\\server\\share\\x", "\\x", "C:\\x",
    "c:/x", "C:x", "..\\x", "a\\..\\b", "a\\b", "a//b", "a/", "x\0y", "x\ny", "x\x7f", "CON", "con.json", "a/nul", "NUL.gguf",
    "COM1", "com1.txt", "LPT9.gguf", "aux ", "AUX.h", "com\u00b9", "CONIN$", "x.", "x ", " x", "a/b.", "file:stream", "a|b",
    "a?b", "a*b", 'a"b', "<x>", "x" * 600, "a/" + "y" * 201, "\ud800", "a/./b", "./x",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=[f"{index}" for index in range(len(HOSTILE))])
def test_hostile_file_names_are_refused_on_every_system(name: str, tmp_path: Path) -> None:
    assert names.fault(name)
    with pytest.raises(ModelFormatError, match="refused, nothing was written") as caught:
        names.within(tmp_path, name, "org/name")
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "a/b/c.gguf", "..x", "x..y", "コン.gguf", "contents.json", ".gitattributes"]
)
def test_ordinary_file_names_pass(name: str, tmp_path: Path) -> None:
    assert names.fault(name) is None
    assert names.within(tmp_path, name, "org/name") == tmp_path / name


def test_a_link_inside_the_folder_does_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "door").symlink_to(tmp_path)
    with pytest.raises(ModelFormatError, match="leads out of"):
        names.within(tmp_path / "in", "door/x", "org/name")


def test_hub_ids() -> None:
    assert names.parse("a/b") == names.HubId("a/b")
    assert names.parse("a/b@refs/pr/1:x/y.gguf") == names.HubId("a/b", "refs/pr/1", "x/y.gguf")
    assert names.parse("plain") is None
    assert names.parse("a/b/c") is None
    assert names.parse("../b") is None


@pytest.mark.parametrize(
    "name", ["a/b:../../x.gguf", "a/b@../x", "a/b:/etc/x.gguf", "a/b:C:\\x.gguf", "a..b/c", "a/b--c", "con/x"]
)
def test_hub_ids_that_could_leave_the_cache(name: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        names.parse(name)
    assert name in str(caught.value).replace("\\\\", "\\")

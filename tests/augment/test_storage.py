"""Files and folders appear whole, and what a killed writer left is gone after the next one; a living one keeps its."""

import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from augment.errors import UserError
from augment.leftovers import BACKUP, SECONDS_LEFT_ALONE, UNFINISHED, remove_all_leftovers, remove_leftovers
from augment.process_identity import ProcessIdentity
from augment.storage import new_folder, seal, write_file, write_new_file
from tests.helpers.forked_kills import kill_everywhere


def fill(folder: Path, text: str, **options: object) -> None:
    with new_folder(folder, **options) as unfinished:  # type: ignore[arg-type]
        (unfinished / "a.txt").write_text(text)
        (unfinished / "part").mkdir()
        (unfinished / "part" / "b.txt").write_text(text)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def dead() -> ProcessIdentity:
    own = ProcessIdentity.own()
    return ProcessIdentity(own.place, own.pid, own.start + 100_000, own.token)


def other_machine() -> ProcessIdentity:
    return ProcessIdentity("ffffffff", 1, 2, "0123abcd")


def write_nested(path: Path, text: str) -> None:
    write_file(path / "x" / "file", text)


WRITERS = {"file": write_file, "folder": partial(fill, replace=True), "nested file": write_nested}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("old", [{"out": "old"}, {}])
def test_a_kill_at_any_operation_leaves_the_old_or_the_new_and_the_next_writer_cleans_up(
    writer: str, old: dict[str, str], tmp_path: Path
) -> None:
    write: Callable[[Path, str], None] = WRITERS[writer]
    states = {}
    for text in ("old", "new"):
        write(tmp_path / text / "out", text)
        states[text] = contents(tmp_path / text)
    work = tmp_path / "work"

    def prepare() -> None:
        shutil.rmtree(work, ignore_errors=True)
        for name, text in old.items():
            write(work / name, text)

    kills = 0
    prepare()
    for _ in kill_everywhere(lambda: write(work / "out", "new")):
        kills += 1
        remove_all_leftovers(work)
        assert contents(work) in [states["old"] if old else {}, states["new"]]
        prepare()
    assert kills >= 2
    for _ in kill_everywhere(lambda: write(work / "out", "new")):
        write(work / "out", "new")
        assert contents(work) == states["new"]
        prepare()


def test_an_old_version_is_put_back_where_the_new_one_did_not_arrive(tmp_path: Path) -> None:
    backup = tmp_path / f".out.{dead()}{BACKUP}"
    backup.mkdir()
    (backup / "a.txt").write_text("old")
    half = tmp_path / f".out.{dead()}{UNFINISHED}"
    half.mkdir()
    remove_leftovers(tmp_path / "out")
    assert contents(tmp_path) == {"out/a.txt": b"old"}
    (tmp_path / "out").rename(backup)
    with pytest.raises(UserError, match="already exists"):
        fill(tmp_path / "out", "new")
    assert contents(tmp_path) == {"out/a.txt": b"old"}


@pytest.mark.parametrize("suffix", [UNFINISHED, BACKUP])
def test_what_a_living_process_writes_stays(tmp_path: Path, suffix: str) -> None:
    own = tmp_path / f".out.{ProcessIdentity.own()}{suffix}"
    own.mkdir()
    remove_leftovers(tmp_path / "out", exclusive=True)
    remove_all_leftovers(tmp_path)
    assert own.exists()


def test_a_writer_on_another_machine_keeps_its_files_for_a_day_unless_this_one_is_alone(tmp_path: Path) -> None:
    names = (f".out.{other_machine()}{UNFINISHED}", f".out.0123abcd{UNFINISHED}")
    for name in names:
        file = tmp_path / name
        file.touch()
        remove_leftovers(tmp_path / "out")
        assert file.exists()
        long_ago = time.time() - SECONDS_LEFT_ALONE - 60
        os.utime(file, (long_ago, long_ago))
        remove_leftovers(tmp_path / "out")
        assert not file.exists()
        file.touch()
        remove_leftovers(tmp_path / "out", exclusive=True)
        assert not file.exists()


def test_files_of_other_names_stay(tmp_path: Path) -> None:
    names = [
        f".other.{dead()}{UNFINISHED}",
        f".out.txt.{dead()}{UNFINISHED}",
        ".out",
        "out.old",
        ".out.swp",
        ".old",
        ".notes.old",
    ]
    for name in names:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "out", exclusive=True)
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    remove_all_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".out", "out.old", ".out.swp", ".old", ".notes.old"}


@pytest.mark.parametrize("name", ["brackets [a-z]", "new\nline", "dots..", "*"])
def test_any_name_is_cleaned(tmp_path: Path, name: str) -> None:
    (tmp_path / f".{name}.{dead()}{UNFINISHED}").touch()
    write_file(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_same_folder_again_is_kept_and_another_one_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with new_folder(folder) as unfinished:
        (unfinished / "a.txt").write_text("same")
        seal(unfinished, "about.json", {})
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}

    def again(text: str) -> None:
        with new_folder(folder, compare="about.json") as unfinished:
            (unfinished / "a.txt").write_text(text)
            seal(unfinished, "about.json", {})

    again("same")
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    with pytest.raises(UserError, match="exists already"):
        again("other")
    (folder / "a.txt").write_text("damaged")
    with pytest.raises(UserError, match="exists already"):
        again("same")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_new_file_is_written_once(tmp_path: Path) -> None:
    assert write_new_file(tmp_path / "a", "text\n")
    assert not write_new_file(tmp_path / "a", "text\n")
    with pytest.raises(UserError, match="exists already"):
        write_new_file(tmp_path / "a", "other")
    assert (tmp_path / "a").read_text() == "text\n"

"""The files of a source: hidden ones, links, archives, encodings, limits, and what is no file."""

import gzip
import json
import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from augment import Selection, SourceError, load_source, load_tasks
from augment.logic_puzzles.source import load_logic_puzzles
from augment.sources import files
from tests.helpers.sources import arc_task, write_json

ONE, TWO, THREE = arc_task(1), arc_task(2), arc_task(3)
SOLUTIONS = {"a": [[[5]]], "b": [[[5]]], "c": [[[5]]]}


def ids(source: Path, **selection: Any) -> list[str]:
    return [task.id for task in load_tasks(source, Selection(**selection))]


@pytest.mark.parametrize(
    "hidden", ["._a.json", ".a.json", ".cache/a.json", "__MACOSX/a.json", "deep/.ipynb_checkpoints/b-checkpoint.json"]
)
def test_hidden_files_are_no_tasks(tmp_path: Path, hidden: str) -> None:
    write_json(tmp_path / "deep" / "b.json", ONE)
    file = write_json(tmp_path / hidden, TWO)
    assert ids(tmp_path) == ["b"]
    file.write_bytes(b"\x00\x05\x16\x07\xb0 not JSON")
    assert load_source(tmp_path).left_out == []


def test_a_hidden_folder_may_be_the_source_itself(tmp_path: Path) -> None:
    write_json(tmp_path / ".cache" / "data" / "a.json", ONE)
    assert ids(tmp_path / ".cache") == ["a"]


def test_links_are_followed_and_each_folder_and_file_is_read_once(tmp_path: Path) -> None:
    store = tmp_path / "store"
    write_json(store / "x" / "a.json", ONE)
    write_json(store / "y" / "b.json", TWO)
    all_of_it = tmp_path / "all"
    all_of_it.mkdir()
    (all_of_it / "first").symlink_to(store / "x")
    (all_of_it / "second").symlink_to(store)
    (store / "x" / "again").symlink_to(all_of_it)
    (store / "y" / "c.json").symlink_to(store / "y" / "b.json")
    assert ids(all_of_it) == ["a", "b"]
    assert ids(store) == ["a", "b"]


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", ONE)
    (tmp_path / "b.json").symlink_to(tmp_path / "gone.json")
    with pytest.raises(SourceError, match=r"b.json cannot be read"):
        load_tasks(tmp_path)
    tasks, left_out = load_source(tmp_path, leave_out_broken=True)
    assert ([task.id for task in tasks], [part.task for part in left_out]) == (["a"], ["b"])
    write_json(tmp_path / "few" / "x_challenges.json", {"a": ONE})
    (tmp_path / "few" / "x_solutions.json").symlink_to(tmp_path / "gone.json")
    with pytest.raises(SourceError, match=r"x_solutions.json cannot be read"):
        load_tasks(tmp_path / "few" / "x")


@pytest.mark.parametrize("folder", ["", "deep"])
def test_strays_beside_folders_of_tasks_are_left_out(tmp_path: Path, folder: str) -> None:
    write_json(tmp_path / "tasks" / "a.json", ONE)
    for name, value in {"package": {"name": "x"}, "split": {"train": [0, 3], "test": [1]}, "n": 7}.items():
        write_json(tmp_path / folder / f"{name}.json", value)
    tasks, left_out = load_source(tmp_path)
    assert [task.id for task in tasks] == ["a"]
    assert sorted(Path(part.file).stem for part in left_out) == ["n", "package", "split"]
    assert {(part.task, part.pair) for part in left_out} == {("", None)}


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(("make", "kind"), [(make_fifo, "a FIFO"), (make_socket, "a socket")])
@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("a.json", "a.json"),
        ("a.json", "."),
        ("x_challenges.json", "x_challenges.json"),
        ("x_challenges.json", "x"),
        ("few_solutions.json", "few"),
    ],
)
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable, kind: str, name: str, source: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is at most 108 characters long
    make(Path(name))
    if source == "few":
        write_json(Path("few_challenges.json"), {"a": ONE})
    with pytest.raises(SourceError, match=f"{name} is {kind}, and a file is needed"):
        load_tasks(source)


def test_devices_and_csv_fifos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="/dev/zero is a device"):
        load_tasks("/dev/zero")
    (tmp_path / "train.csv").write_text("question,answer\n")
    os.mkfifo(tmp_path / "test.csv")
    with pytest.raises(SourceError, match=r"test.csv is a FIFO"):
        load_logic_puzzles(str(tmp_path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_in_any_unicode_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "x_challenges.json").write_bytes(json.dumps({"ä": ONE}, ensure_ascii=False).encode(encoding))
    assert ids(tmp_path / "x") == ["ä"]
    (tmp_path / "y.jsonl").write_bytes("\n".join(json.dumps(task) for task in (ONE, TWO)).encode(encoding))
    assert ids(tmp_path / "y.jsonl") == ["y-1", "y-2"]


def test_text_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(json.dumps(ONE | {"by": "ä"}, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(SourceError, match=r"a.json cannot be read"):
        load_tasks(tmp_path / "a.json")


@pytest.mark.parametrize("separator", ["_", "-"])
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("solutions_ending", ["", ".gz"])
def test_challenges_and_solutions_have_either_separator_and_may_be_gzip(
    tmp_path: Path, separator: str, ending: str, solutions_ending: str
) -> None:
    challenges = f"x{separator}challenges.json{ending}"
    for name, value in (
        (challenges, {"a": ONE, "b": TWO}),
        (f"x{separator}solutions.json{solutions_ending}", SOLUTIONS),
    ):
        text = json.dumps(value).encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    for source in ("x", challenges):
        tasks = load_tasks(tmp_path / source)
        assert [(task.id, task.has_solutions) for task in tasks] == [("a", True), ("b", True)]
    with pytest.raises(SourceError, match="contains many tasks"):
        load_tasks(tmp_path)


def test_a_gzip_file_needs_no_special_name_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    content = gzip.compress(json.dumps(ONE).encode())
    (tmp_path / "a.json").write_bytes(content)
    (tmp_path / "b.json.gz").write_bytes(content)
    assert ids(tmp_path) == ["a", "b"]
    (tmp_path / "b.json.gz").write_bytes(content[:-12])
    with pytest.raises(SourceError, match=r"b.json.gz cannot be unpacked"):
        load_tasks(tmp_path)


def write_zip(path: Path, members: dict[str, Any], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, value in members.items():
            archive.writestr(name, value if isinstance(value, bytes) else json.dumps(value))
    return path


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"a.json": ONE}, ["a"]),
        ({"r/tasks/a.json": ONE, "r/tasks/b.json": [TWO["train"][0]], "r/metadata.json": {"a": {}}}, ["a", "b"]),
        ({"a.json": ONE, "deep/b.json": TWO}, ["a"]),
        ({"deep/a.json": ONE, "__MACOSX/deep/._a.json": b"\xb0", "deep/.x/b.json": TWO, "notes.txt": b""}, ["a"]),
        ({"k/x_challenges.json": {"a": ONE}, "k/x_solutions.json": SOLUTIONS, "k/sample_submission.json": {}}, ["a"]),
    ],
)
def test_a_zip_archive_is_read_like_a_folder(tmp_path: Path, members: dict, expected: list[str]) -> None:
    archive = write_zip(tmp_path / "x.zip", members)
    tasks = load_tasks(archive)
    assert [task.id for task in tasks] == expected
    assert tasks[0].has_solutions == any("solutions" in name for name in members)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, r"x.zip contains no .json file"),
        ({"a/b.json": ONE, "c/b.json": TWO}, r"task b is in both .*x.zip/a/b.json and .*x.zip/c/b.json"),
        ({"a_challenges.json": {}, "b_challenges.json": {}}, "contains many tasks.*unpack"),
        ({"a.json": b"{"}, r"x.zip/a.json, line 1"),
    ],
)
def test_archives_that_are_refused(tmp_path: Path, members: dict, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        load_tasks(write_zip(tmp_path / "x.zip", members))


def test_damaged_archives_and_other_methods_are_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "x.zip", {"a.json": ONE}, zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b'"input"', b'"inpux"'))
    with pytest.raises(SourceError, match=r"x.zip/a.json cannot be unpacked"):
        load_tasks(archive)
    with pytest.raises(SourceError, match="is not stored or deflated"):
        load_tasks(write_zip(tmp_path / "y.zip", {"a.json": ONE}, zipfile.ZIP_BZIP2))


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_UNPACKED", 2**20)
    long = json.dumps(ONE).encode() + b" " * 2**21
    (tmp_path / "a.json").write_bytes(gzip.compress(long))
    write_zip(tmp_path / "x.zip", {"a.json": long})
    write_zip(tmp_path / "y.zip", {"a.json": gzip.compress(long)})
    for source in ("a.json", "x.zip", "y.zip"):
        with pytest.raises(SourceError, match="unpacks to more than 1 MiB; unpack it"):
            load_tasks(tmp_path / source)
    monkeypatch.setattr(files, "MAX_ARCHIVE", 2**20)
    with pytest.raises(SourceError, match=r"x.zip unpacks to more than 1 MiB"):
        load_tasks(tmp_path / "x.zip")
    (tmp_path / "a.json").write_bytes(long)
    assert ids(tmp_path / "a.json") == ["a"]

"""Files that stand in place of a checkpoint are told apart in one message, and nothing in them runs."""

import gzip
import os
import pickle
import random
import struct
import zipfile
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from augment.errors import UserError
from pipeline.checkpoints import published_file
from pipeline.checkpoints.convert_trm import check_weights, infer_config, read_published
from pipeline.checkpoints.published_file import find_weights, list_objects, read_object
from tests.helpers.commands import refuse
from tests.helpers.published import published_tensors

NOT_UTF8 = bytes(range(130, 256)) * 20
CONTENTS = {
    "empty": (b"", "is empty"),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
        "Git LFS pointer.*git lfs pull",
    ),
    "page": (b"\n  <!doctype html><title>403</title>", "web page"),
    "page with a mark": (b"\xef\xbb\xbf<html>" + b"x" * 5000, "web page"),
    "answer": (b'{"error": "Repository not found"}', "text of 33 bytes.*server"),
    "note": (b"moved to another place", "text of 22 bytes"),
    "gzip": (gzip.compress(b"weights"), "gzip archive.*unpack"),
    "other": (NOT_UTF8, "neither a .safetensors file nor one saved by torch"),
    "short header": (struct.pack("<Q", 4000) + b'{"a": ', "cut short or damaged"),
    "huge shape": (
        struct.pack("<Q", 80) + b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}  ',
        "cut short or damaged",
    ),
    "half a pickle": (pickle.dumps({"a": [1.0] * 50}, protocol=2)[:40], "cut short or damaged"),
}


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("name", ["weights.safetensors", "step_100"])
def test_what_is_not_a_checkpoint_is_told_by_its_content(
    kind: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = CONTENTS[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.* {message}") as refused:
        read_object(tmp_path / name)
    assert "\n" not in str(refused.value)
    assert "weights_only" not in refuse(capsys, "convert", tmp_path / name, "--out", tmp_path / "out")


def test_a_file_cut_short_says_so(tmp_path: Path) -> None:
    save_file(published_tensors(), tmp_path / "a.safetensors")
    torch.save(published_tensors(), tmp_path / "a.pt")
    torch.save(published_tensors(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for file in list(tmp_path.iterdir()):
        for share in (0.02, 0.5, 0.99):
            cut = tmp_path / f"cut{file.suffix}"
            cut.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
            with pytest.raises(UserError, match=r"cut.*(cut short or damaged|neither)"):
                read_object(cut)


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_code_is_named_and_runs_nothing(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"model": Payload(tmp_path / "ran")}, protocol=protocol))
    with pytest.raises(UserError, match=r"posix\.mkdir.*could run code.*save its tensors alone"):
        read_object(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("archive", [True, False])
def test_other_objects_beside_the_tensors_are_named(archive: bool, tmp_path: Path) -> None:
    content = {"model": published_tensors(), "arguments": Namespace(lr=1.0)}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=archive)
    with pytest.raises(UserError, match=r"argparse\.Namespace") as refused:
        read_object(tmp_path / "a.pt")
    assert "weights_only" not in str(refused.value)
    torch.save(published_tensors(), tmp_path / "b.pt", _use_new_zipfile_serialization=archive)
    assert list_objects(tmp_path / "b.pt") == []
    assert read_object(tmp_path / "b.pt").keys() == published_tensors().keys()


def test_archives_that_torch_did_not_save_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.bin", "w") as archive:
        archive.writestr("model.safetensors", b"x")
    with pytest.raises(UserError, match=r"a\.bin is a zip archive.*model\.safetensors"):
        read_object(tmp_path / "a.bin")
    torch.save({"a": torch.zeros(10**6)}, tmp_path / "b.pt")
    with (
        zipfile.ZipFile(tmp_path / "b.pt") as stored,
        zipfile.ZipFile(tmp_path / "c.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    with pytest.raises(UserError, match=r"c\.pt unpacks to more than its own size"):
        read_object(tmp_path / "c.pt")


def test_a_file_larger_than_memory_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    header = b'{"a":{"dtype":"U8","shape":[8796093022208],"data_offsets":[0,8796093022208]}}'
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + 2**43)  # a sparse file: it takes no space on disk
    with pytest.raises(UserError, match=r"8,192\.0 GiB.*memory"):
        read_object(file)


def test_pipes_devices_and_missing_files_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "pipe", "named pipe"),
        (Path("/dev/zero"), "device"),
        (tmp_path / "none", "does not exist"),
        (tmp_path / "pipe" / "x", "cannot be opened"),
    ):
        with pytest.raises(UserError, match=f"{path}.*{message}"):
            read_object(find_weights(path))


def test_a_folder_gives_its_only_file_of_weights(tmp_path: Path) -> None:
    for name in ("README.md", "LICENSE", ".gitattributes", "config.json", "trm.py", "step_9_all_preds.0"):
        (tmp_path / name).write_text("text")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"has no file of weights.*it has LICENSE, README\.md"):
        find_weights(tmp_path)
    torch.save(published_tensors(), tmp_path / "step_9")
    assert find_weights(tmp_path) == tmp_path / "step_9"
    save_file(published_tensors(), tmp_path / "ema.safetensors")
    with pytest.raises(UserError, match=r"several files of weights: ema\.safetensors, step_9; give one"):
        find_weights(tmp_path)
    (tmp_path / "checkpoint.json").write_text("{}")
    with pytest.raises(UserError, match="checkpoint of this project already"):
        find_weights(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="it is empty"):
        find_weights(tmp_path / "empty")


def test_a_folder_of_pointers_says_so(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(published_file.LFS + b".github.com/spec/v1\n")
    with pytest.raises(UserError, match=r"model\.safetensors is a Git LFS pointer"):
        read_object(find_weights(tmp_path))


def mutate(content: bytes, draw: random.Random) -> bytes:
    """Change, remove or add a few bytes, mostly near the beginning, or cut the end."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(min(len(changed), 2500 if draw.random() < 0.8 else len(changed)))
        action = draw.choice(("change", "remove", "add", "cut"))
        if action == "change":
            changed[place] = draw.randrange(256)
        elif action == "cut":
            return bytes(changed[: 1 + draw.randrange(len(changed))])
        else:
            size = draw.randint(1, 9)
            changed[place : place + size * (action == "remove")] = draw.randbytes(size * (action == "add"))
    return bytes(changed)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["safetensors", "archive", "old"])
def test_mutations_are_read_or_refused_in_one_line(form: str, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    if form == "safetensors":
        save_file(published_tensors(), file)
    else:
        torch.save({"model": published_tensors()}, file, _use_new_zipfile_serialization=form == "archive")
    content = file.read_bytes()
    draw = random.Random(3)
    messages = []
    for _ in range(2000):
        file.write_bytes(mutate(content, draw))
        try:
            weights, id_rows = read_published(file)
            check_weights(weights, infer_config(weights, id_rows, heads=2, board_side=4), file)
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 1000
    assert not [message for message in messages if "\n" in message]

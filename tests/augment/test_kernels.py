"""Kernels are cached on disk where possible, and compiled again where the cache cannot be read or written."""

import errno
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest
from numba.core import config
from numba.core.caching import CacheImpl, IndexDataCacheFile, InTreeCacheLocator, UserProvidedCacheLocator

from augment.kernels import REPORTED, kernel


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, which is the only one."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(CacheImpl, "_locator_classes", [UserProvidedCacheLocator])
    monkeypatch.setenv(REPORTED, "")
    monkeypatch.delenv(REPORTED)
    return tmp_path / "cache"


def make_double() -> Any:
    """Return a new kernel; each one stands for the same function in another process."""

    @kernel()
    def double(number):
        return 2 * number

    return double


def hits(function: Any) -> int:
    """Return how often the kernel was loaded from the cache."""
    return sum(function.stats.cache_hits.values())


def files(cache: Path, suffix: str) -> list[Path]:
    """Return the files of the cache with this suffix."""
    return sorted(cache.rglob(f"*{suffix}"))


def test_a_kernel_is_compiled_once(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert make_double()(4) == 8
    assert len(files(cache, ".nbi")) == len(files(cache, ".nbc")) == 1
    again = make_double()
    assert (again(5), hits(again), caplog.messages) == (10, 1, [])


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_file_cut_short_is_written_again(
    cache: Path, caplog: pytest.LogCaptureFixture, suffix: str, share: float
) -> None:
    make_double()(4)
    [file] = files(cache, suffix)
    os.truncate(file, int(share * file.stat().st_size))
    damaged = make_double()
    assert (damaged(5), hits(damaged)) == (10, 0)
    mended = make_double()
    assert (mended(6), hits(mended), caplog.messages) == (12, 1, [])


@pytest.mark.parametrize("content", [b"not a pickle", pickle.dumps(7), pickle.dumps(numba.__version__), bytes(64)])
def test_a_file_of_other_content_is_written_again(cache: Path, content: bytes) -> None:
    make_double()(4)
    for file in [*files(cache, ".nbi"), *files(cache, ".nbc")]:
        file.write_bytes(content)
    assert make_double()(5) == 10
    mended = make_double()
    assert (mended(6), hits(mended)) == (12, 1)


def fail_with(code: int) -> Callable[..., None]:
    """Return a function that raises an OSError."""

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.ESTALE])
def test_a_cache_that_cannot_be_written_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    monkeypatch.setattr(IndexDataCacheFile, "save", fail_with(code))
    assert [make_double()(number) for number in (1, 2)] == [2, 4]
    [message] = caplog.messages
    assert os.strerror(code) in message
    assert "NUMBA_CACHE_DIR" in message


def test_a_damaged_index_that_cannot_be_replaced_is_done_without(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_double()(4)
    [index] = files(cache, ".nbi")
    os.truncate(index, 3)
    monkeypatch.setattr(IndexDataCacheFile, "_save_index", fail_with(errno.EROFS))
    assert make_double()(5) == 10
    assert len(caplog.messages) == 1


def test_without_any_folder_kernels_work_and_call_each_other(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.write_text("a file where the folder would be")
    double = make_double()

    @kernel(inline="always")
    def increase(number):
        return double(number) + 1

    @kernel(nogil=True)
    def both(number):
        return increase(number) + double(number)

    caplog.set_level(logging.WARNING)
    assert caplog.messages == []  # nothing is said before something is compiled
    assert both(3) == 13
    assert len(caplog.messages) == 1


def test_without_a_home_no_folder_of_that_name_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(config, "CACHE_LOCATOR_CLASSES", "")
    monkeypatch.setattr(InTreeCacheLocator, "ensure_cache_path", fail_with(errno.EROFS))
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(REPORTED, "")
    monkeypatch.delenv(REPORTED)
    monkeypatch.chdir(tmp_path)
    assert make_double()(4) == 8
    assert list(tmp_path.iterdir()) == []
    assert len(caplog.messages) == 1


def test_without_compilation_a_kernel_is_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "DISABLE_JIT", True)
    assert make_double().__name__ == "double"
    assert make_double()(4) == 8

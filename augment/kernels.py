"""The decorator of all numba kernels: compiled on the first call, with the machine code kept on disk where possible.

numba keeps machine code in `__pycache__` beside the module, or in NUMBA_CACHE_DIR or the user's cache folder. Its own
`cache=True` ends the program where no such folder can be written, and where a file of the cache is damaged. Here a
kernel is then compiled again in each process, and one line of the log says so.
"""

import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit
from numba.core import config
from numba.core.caching import FunctionCache, NullCache

Function = TypeVar("Function", bound=Callable)
WITHOUT_HOME = "UserProvidedCacheLocator,InTreeCacheLocator"
"""numba's names of NUMBA_CACHE_DIR and `__pycache__`, the places for a cache that need no home."""
REPORTED = "ARC_TRM_KERNELS_REPORTED"
"""Environment variable, set once the line has been logged: this process and those that it starts do not repeat it."""


def kernel(**options: Any) -> Callable[[Function], Function]:
    """Return a decorator that compiles a function as `numba.njit` with these options, and caches it where possible."""

    def compiled(function: Function) -> Function:
        dispatcher = cast(Any, njit(**options)(function))
        # With NUMBA_DISABLE_JIT numba returns the function itself.
        if hasattr(dispatcher, "enable_caching"):
            # The assignment that numba makes for `cache=True`, with another cache.
            dispatcher._cache = _make_cache(function)
        return dispatcher

    return compiled


class _Cache(FunctionCache):
    """numba's cache of one function, which is done without where it cannot be read or written."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled function; None if it is not in the cache or the cache is damaged."""
        try:
            return super().load_overload(sig, target_context)
        # A damaged pickle raises any exception.
        except Exception:
            self._empty()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Add the compiled function to the cache, if it can be written."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _report(str(error) or type(error).__name__)

    def _empty(self) -> None:
        """Replace a damaged index, so that the function can be saved; `save_overload` reports that it cannot."""
        try:
            self.flush()
        except OSError:
            return


class _NoCache(NullCache):
    """The cache of a function for which there is no folder."""

    def __init__(self, reason: str):
        self.reason = reason

    def save_overload(self, sig: Any, cres: Any) -> None:
        """Report that the function that was just compiled is not kept."""
        _report(self.reason)


def _make_cache(function: Callable) -> FunctionCache | NullCache:
    """Return the cache of a function; numba raises RuntimeError if no folder can be written."""
    if os.path.expanduser("~") == "~" and not os.environ.get("XDG_CACHE_HOME"):
        # Without a home, numba would make a folder named "~" in the current folder.
        settings = cast(Any, config)
        settings.CACHE_LOCATOR_CLASSES = getattr(settings, "CACHE_LOCATOR_CLASSES", "") or WITHOUT_HOME
    try:
        return _Cache(function)
    except (RuntimeError, OSError) as error:
        return _NoCache(str(error))


def _report(reason: str) -> None:
    """Log once that kernels are not cached. The reason is numba's or the system's."""
    if REPORTED not in os.environ:
        os.environ[REPORTED] = "1"
        logging.getLogger(__name__).warning(
            "warning: compiled kernels cannot be kept (%s): each process compiles them again, which takes up to a "
            "minute; set NUMBA_CACHE_DIR to a folder that can be written",
            reason,
        )

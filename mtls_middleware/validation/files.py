"""`FileCache`: parses a value from files, and parses it again when the files change.

If a new file cannot be parsed, the old value stays in use. A value never mixes the contents of old and new files.
"""

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Generic, TypeVar

from mtls_middleware.errors import ConfigurationError

logger: logging.Logger = logging.getLogger("mtls_middleware.validation")

T = TypeVar("T")

# Maps each configured path to its files and their contents. The files are the path itself or, for a directory, the
# files in it.
Contents = Mapping[Path, Sequence[tuple[Path, bytes]]]
# The state of one file: name, mtime, size, inode and ctime. The state changes if the file is written or replaced.
_State = tuple[str, int, int, int, int]

# Seconds between two checks for changed files. A change takes effect within about a second.
_INTERVAL = 1.0
# Maximum size in bytes of changed files that are read during a request. A background thread reads larger files. Until
# then, requests use the old value.
_MAX_INLINE_SIZE = 2_097_152
# Maximum number of attempts to read files that change while they are read.
_ATTEMPTS = 3


class FileCache(Generic[T]):
    """Caches the value that `parse` returns for the files at `paths`.

    Arguments:
        paths: files, or directories.
        suffixes: the suffixes of the files that are read in a directory.
        parse: a function that converts the contents of the files to the value. At construction, its exceptions are
            raised. Later, they are logged and the old value stays in use.

    Raises `ConfigurationError` if a path cannot be read.
    """

    def __init__(self, paths: Collection[Path], suffixes: Collection[str], parse: Callable[[Contents], T]) -> None:
        self._paths = tuple(dict.fromkeys(paths))
        self._suffixes = frozenset(suffixes)
        self._parse = parse
        self._lock = threading.Lock()  # held while the value is renewed; other callers do not wait
        self._checked_at = float("-inf")
        try:
            self._state, self._value = self._load()
        except OSError as error:
            raise ConfigurationError(f"{error.filename}: cannot be read ({type(error).__name__})") from error

    def current(self, now: float) -> T:
        """Return the value. If the last check is a second old, first check for changed files and renew the value."""
        if self._paths and abs(now - self._checked_at) >= _INTERVAL and self._lock.acquire(blocking=False):
            has_thread = False
            try:
                self._checked_at = now
                has_thread = self._check()
            finally:
                if not has_thread:
                    self._lock.release()
        return self._value

    def _check(self) -> bool:
        """Renew the value if files have changed. Returns `True` if a thread renews the value and releases the lock."""
        try:
            state = self._states()
        except OSError as error:
            state = ((str(error), 0, 0, 0, 0),)
        if state == self._state:
            return False
        if sum(size for _, _, size, _, _ in state) <= _MAX_INLINE_SIZE:
            self._renew(state)
            return False
        threading.Thread(
            target=self._renew_and_release, args=(state,), name="mtls-middleware files", daemon=True
        ).start()
        return True

    def _renew_and_release(self, state: tuple[_State, ...]) -> None:
        try:
            self._renew(state)
        finally:
            self._lock.release()

    def _renew(self, state: tuple[_State, ...]) -> None:
        try:
            self._state, self._value = self._load()
            logger.info("changed files are loaded: %s", ", ".join(map(str, self._paths)))
        except Exception as error:  # noqa: BLE001 (after any exception of `parse`, the old value stays in use)
            self._state = state  # so the error is logged only once, and the next change causes the next attempt
            logger.error("cannot load the changed files; the old contents stay in use: %s", error)

    def _load(self) -> tuple[tuple[_State, ...], T]:
        for _ in range(_ATTEMPTS):
            before = self._states()
            contents = {path: [(file, file.read_bytes()) for file in self._files(path)] for path in self._paths}
            if self._states() == before:
                return before, self._parse(contents)
        raise ConfigurationError(
            "the files changed while they were read; expected complete files: write a new file, and rename it over the "
            "old one"
        )

    def _states(self) -> tuple[_State, ...]:
        found = []
        for path in self._paths:
            for file in self._files(path):
                stat = file.stat()
                found.append((str(file), stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_ctime_ns))
        return tuple(found)

    def _files(self, path: Path) -> list[Path]:
        if not path.is_dir():
            return [path]
        return sorted(
            each
            for each in path.iterdir()
            if each.suffix in self._suffixes and not each.name.startswith(".") and each.is_file()
        )


def split(name: str, given: object, kind: type[T], example: str) -> list[T | Path]:
    """Check a configured list of objects and paths, and convert the paths to `Path`. Raises `ConfigurationError`."""
    if isinstance(given, (str, bytes, PathLike, Mapping)) or not isinstance(given, Collection):
        raise ConfigurationError(f"{name}={given!r}: expected a list, for example {example}")
    found: list[T | Path] = []
    for each in given:
        if isinstance(each, kind):
            found.append(each)
        elif isinstance(each, (str, PathLike)) and str(each):
            found.append(Path(each))
        else:
            raise ConfigurationError(f"{name}: unexpected {each!r}; expected for example {example}")
    return found

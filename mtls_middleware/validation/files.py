"""`Watched`: a value made of files, made anew when they change on disk.

Must never know: what the files hold. A broken new file never replaces a good old one, and nobody sees half of a change.
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

# What each given path held: its own octets, or those of the files in it.
Contents = Mapping[Path, Sequence[tuple[Path, bytes]]]
# One file's state: what changes when it is written, or another is renamed to its place.
_State = tuple[str, int, int, int, int]

# Between two looks at the disk: a change counts within about a second, and a busy server asks the disk once a second.
_INTERVAL = 1.0
# Up to here a change is read by the request that sees it; beyond, by a thread, and requests go on with the old value.
_READ_IN_PASSING = 2_097_152
# A file that changes while it is read is read again, so often.
_ATTEMPTS = 3


class Watched(Generic[T]):
    """What `make` makes of the files at `paths`, where a directory stands for the files in it with these suffixes.

    Arguments:
        make: contents to value. Whatever it raises at construction comes through; later it is logged, and the old
            value stays.

    Raises `ConfigurationError` where a path cannot be read.
    """

    def __init__(self, paths: Collection[Path], suffixes: Collection[str], make: Callable[[Contents], T]) -> None:
        self._paths = tuple(dict.fromkeys(paths))
        self._suffixes = frozenset(suffixes)
        self._make = make
        self._lock = threading.Lock()  # who holds it makes the next value; nobody waits for it
        self._looked_at = float("-inf")
        try:
            self._state, self._value = self._load()
        except OSError as error:
            raise ConfigurationError(f"{error.filename}: cannot be read ({type(error).__name__})") from error

    def current(self, now: float) -> T:
        """The value; made anew first, where more than a second has passed since the last look and files changed."""
        if self._paths and abs(now - self._looked_at) >= _INTERVAL and self._lock.acquire(blocking=False):
            keep = False
            try:
                self._looked_at = now
                keep = self._look()
            finally:
                if not keep:
                    self._lock.release()
        return self._value

    def _look(self) -> bool:
        """Make the value anew where files changed; whether a thread now holds the lock and will."""
        try:
            state = self._states()
        except OSError as error:
            state = ((str(error), 0, 0, 0, 0),)
        if state == self._state:
            return False
        if sum(size for _, _, size, _, _ in state) <= _READ_IN_PASSING:
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

    def _renew(self, seen: tuple[_State, ...]) -> None:
        try:
            self._state, self._value = self._load()
            logger.info("changed files are in use: %s", ", ".join(map(str, self._paths)))
        except Exception as error:  # noqa: BLE001 (whatever is wrong with the new files, the old value is good)
            self._state = seen  # said once, and tried again when they change again
            logger.error("changed files are not used, what they held before stays: %s", error)

    def _load(self) -> tuple[tuple[_State, ...], T]:
        for _ in range(_ATTEMPTS):
            before = self._states()
            contents = {path: [(file, file.read_bytes()) for file in self._files(path)] for path in self._paths}
            if self._states() == before:
                return before, self._make(contents)
        raise ConfigurationError("files that change while they are read: replace them by renaming")

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
    """A configured list of objects and paths, the paths as `Path`. Raises `ConfigurationError`."""
    if isinstance(given, (str, bytes, PathLike, Mapping)) or not isinstance(given, Collection):
        raise ConfigurationError(f"{name}={given!r}: a list, for example {example}")
    found: list[T | Path] = []
    for each in given:
        if isinstance(each, kind):
            found.append(each)
        elif isinstance(each, (str, PathLike)) and str(each):
            found.append(Path(each))
        else:
            raise ConfigurationError(f"{name}: {each!r} is no path and no {kind.__name__}, for example {example}")
    return found

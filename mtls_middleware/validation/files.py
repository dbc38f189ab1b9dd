"""`FileCache`: parses files into a value, and parses changed files again.

Each file is handled separately: if a changed file cannot be read or parsed, its last good contents stay in use, and the
other files take effect. Files that are replaced together, such as those in a directory that is a link, take effect
together.
"""

import errno
import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import BinaryIO, Generic, TypeVar

from mtls_middleware.errors import ConfigurationError, Unavailable
from mtls_middleware.forks import reset_after_fork
from mtls_middleware.retry import retry_delay

logger: logging.Logger = logging.getLogger("mtls_middleware.validation")

P = TypeVar("P")
T = TypeVar("T")

# A mapping of each configured path to the parsed contents of its files. The path is a file, or a directory of files.
Contents = Mapping[Path, Mapping[Path, P]]
# The state of one file: mtime, size, inode and ctime. The state changes if the file is written or replaced. `None`
# means that the state cannot be read.
_State = tuple[int, int, int, int] | None

# Seconds between two checks for changed files. A change takes effect within about a second.
_INTERVAL = 1.0
# Maximum size in bytes of changed files that are parsed during a request, in about 10 milliseconds. A background thread
# parses larger files. Until then, requests use the old value.
MAX_INLINE_SIZE = 262_144
# Maximum number of attempts to read files that change while they are read.
_ATTEMPTS = 4
# These errors mean that the file does not exist. After any other error, the file may be readable again later.
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


@dataclass(frozen=True, slots=True)
class _File(Generic[P]):
    """The known data about one file.

    Attributes:
        state: the state of the file at the last attempt to read it.
        good: a tuple with the last good contents; empty if no contents were good yet.
        reason: the reason why the last attempt failed; empty if it succeeded.
        failures: the number of failed attempts since the last successful attempt.
        failed_at: the time of the last failed attempt.
    """

    state: _State = (0, 0, 0, 0)  # no file has this state
    good: tuple[P, ...] = ()
    reason: str = ""
    failures: int = 0
    failed_at: float = 0.0

    @property
    def delay(self) -> float:
        """The number of seconds between the last failed attempt and the next attempt."""
        return max(_INTERVAL, retry_delay(self.failures))

    def is_due(self, state: _State, now: float) -> bool:
        """Return whether the file must be read, if `state` is its current state."""
        return state != self.state or (self.failures > 0 and abs(now - self.failed_at) >= self.delay)

    def failed(self, state: _State, reason: str, now: float) -> "_File[P]":
        """Return a copy that counts one more failed attempt."""
        return _File(state, self.good, reason, self.failures + 1, now)


@dataclass(frozen=True, slots=True)
class _Listing:
    """The files of each configured path, and the state of each file."""

    paths: Mapping[Path, tuple[Path, ...]]
    states: Mapping[Path, _State]


class FileCache(Generic[P, T]):
    """Caches the value that is computed from the files at `paths`.

    Arguments:
        paths: files, or directories.
        suffixes: the suffixes of the files that are read in a directory.
        parse: a function that reads one open file. It raises `ValueError` with a reason.
        combine: a function that computes the value from the old value (`None` at construction), the parsed contents of
            all files, and the time. At construction, its exceptions are raised. Later, they are logged, and the old
            value stays in use.
        gone: the consequence for a file that is deleted or has no good contents, for the log.

    Raises `ConfigurationError` if a file cannot be read or parsed.
    """

    def __init__(
        self,
        paths: Collection[Path],
        suffixes: Collection[str],
        parse: Callable[[BinaryIO], P],
        combine: Callable[[T | None, Contents[P], float], T],
        *,
        gone: str,
    ) -> None:
        self._paths = tuple(dict.fromkeys(paths))
        self._suffixes = frozenset(suffixes)
        self._parse, self._combine, self._gone = parse, combine, gone
        self._lock = threading.Lock()  # held while a request checks the files; other requests do not wait for the lock
        self._thread: threading.Thread | None = None  # the thread that reads changed files
        self._no_thread = False  # whether a thread is needed, but cannot be started
        self._checked_at = float("-inf")
        self._listing = _Listing({}, {})
        self._files: Mapping[Path, _File[P]] = {}
        self._combined: _File[T] = _File(None)  # the value, and the failed attempts to compute the next value
        try:
            for path in self._paths:
                path.stat()
            self._listing, self._files = self._read(self._list(), float("-inf"))
        except OSError as error:
            raise ConfigurationError(f"{error.filename}: {_reason(error)}") from error
        for file, each in self._files.items():
            if each.failures:
                raise ConfigurationError(f"{file}: {each.reason}")
        self._combined = _File(None, (combine(None, _contents(self._listing, self._files), float("-inf")),))
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Replace the lock. If another thread of the parent held it, this process would never check the files."""
        self._lock = threading.Lock()

    def current(self, now: float) -> T:
        """Return the value.

        If the last check was at least a second ago, first check for changed files and renew the value.

        Raises `Unavailable` if files have changed, and no thread can be started to read them.
        """
        if self._paths and abs(now - self._checked_at) >= _INTERVAL and self._lock.acquire(blocking=False):
            try:
                self._checked_at = now
                self._check(now)
            except Exception as error:  # noqa: BLE001 (the old value stays in use, and the next check tries again)
                _log_failure(error)
            finally:
                self._lock.release()
        if self._no_thread:
            raise Unavailable("no thread can be started to read changed files", retry_after=1)
        return self._combined.good[0]

    def _check(self, now: float) -> None:
        """Renew the value, or start a thread that does so, if files have changed or must be tried again."""
        # In a forked child process, the thread does not exist, so it is not alive.
        if self._thread is not None and self._thread.is_alive():
            return
        listing = self._list()
        due = [state for file, state in listing.states.items() if self._files.get(file, _File()).is_due(state, now)]
        is_changed = due or listing.paths != self._listing.paths or self._combined.is_due(None, now)
        self._no_thread = False
        if is_changed and sum(state[1] for state in due if state is not None) <= MAX_INLINE_SIZE:
            self._renew(listing, now)
        elif is_changed:
            self._thread = threading.Thread(
                target=self._renew_in_thread, args=(listing, now), name="mtls-middleware files", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError as error:
                self._no_thread = True
                logger.error(
                    "no thread can be started to read changed files (%s); the response is 503, and the next attempt is "
                    "in %g s",
                    error,
                    _INTERVAL,
                )

    def _renew_in_thread(self, listing: _Listing, now: float) -> None:
        try:
            self._renew(listing, now)
        except BaseException as error:  # noqa: BLE001 (the old value stays in use, and the next check tries again)
            _log_failure(error)

    def _renew(self, listing: _Listing, now: float) -> None:
        """Read the files that are due, and compute the value.

        If an unexpected exception ends this method, no attribute has changed, so the next check tries again.
        """
        before, value = self._files, self._combined.good
        found, files = self._read(listing, now)
        try:
            combined = _File(None, (self._combine(value[0], _contents(found, files), now),))
        except ConfigurationError as error:
            # The new files cannot be combined, for example because no root is left, so wait for a change.
            combined = _File(None, value, str(error))
        except Exception as error:  # noqa: BLE001 (for example, `MemoryError`: the next attempt may succeed)
            combined = self._combined.failed(None, _reason(error), now)
        self._listing, self._files, self._combined = found, files, combined
        self._log(before)

    def _log(self, before: Mapping[Path, _File[P]]) -> None:
        loaded = [file for file, each in self._files.items() if before.get(file) is not each and not each.failures]
        if loaded:
            logger.info("changed files are loaded: %s", ", ".join(map(str, loaded)))
        for file in before.keys() - self._files.keys():
            logger.warning("%s is deleted; %s", file, self._gone)
        for file, each in self._files.items():
            if each.failures and before.get(file) is not each:
                used = "its last good contents stay in use" if each.good else self._gone
                logger.error("%s: %s; %s; the next attempt is in %g s", file, each.reason, used, each.delay)
        if self._combined.reason:
            again = f"; the next attempt is in {self._combined.delay:g} s" if self._combined.failures else ""
            reason = self._combined.reason
            logger.error("cannot use the changed files; the old contents stay in use: %s%s", reason, again)

    def _read(self, listing: _Listing, now: float) -> tuple[_Listing, Mapping[Path, _File[P]]]:
        """Read the files that are due, and read them again if a file has changed in the meantime.

        A file that changes during each attempt counts as failed.
        """
        read: dict[Path, _File[P]] = {}
        changing: set[Path] = set()
        for _ in range(_ATTEMPTS):
            for file, state in listing.states.items():
                if file not in read or read[file].state != state:
                    read[file] = self._load(file, state, now)
            found, listing = listing, self._list()
            changed = {file for file, _ in found.states.items() ^ listing.states.items()}
            if not changed:
                return found, {file: read[file] for file in found.states}
            changing |= changed
        reason = "it changed while it was read; write a new file, and rename it over the old one"
        for file in changing & found.states.keys():
            read[file] = self._files.get(file, _File()).failed(found.states[file], reason, now)
        return found, {file: read[file] for file in found.states}

    def _load(self, file: Path, state: _State, now: float) -> _File[P]:
        known = self._files.get(file, _File())
        if not known.is_due(state, now):
            return known
        try:
            if state is None:
                file.stat()  # raises the same exception as the attempt of `_list` to read the state
            with file.open("rb") as opened:
                return _File(state, (self._parse(opened),))
        except Exception as error:  # noqa: BLE001 (for example, `MemoryError`: the next attempt may succeed)
            is_gone = isinstance(error, OSError) and error.errno in _GONE
            return replace(known, good=() if is_gone else known.good).failed(state, _reason(error), now)

    def _list(self) -> _Listing:
        paths: dict[Path, tuple[Path, ...]] = {}
        states: dict[Path, _State] = {}
        for path in self._paths:
            found: dict[Path, _State] = {}
            for file in self._names(path):
                try:
                    facts = file.stat()
                except OSError as error:
                    # A deleted file is not an error here, but a link without a target is.
                    if error.errno not in _GONE or file.is_symlink():
                        found[file] = None
                    continue
                if S_ISREG(facts.st_mode) or file == path:
                    found[file] = facts.st_mtime_ns, facts.st_size, facts.st_ino, facts.st_ctime_ns
            paths[path] = tuple(found)
            states |= found
        return _Listing(paths, states)

    def _names(self, path: Path) -> Sequence[Path]:
        """Return the files of a configured path. If a directory cannot be listed, return its known files."""
        try:
            if not S_ISDIR(path.stat().st_mode):
                return [path]
            return sorted(each for each in path.iterdir() if each.suffix in self._suffixes and each.name[0] != ".")
        except OSError as error:
            if error.errno in _GONE:
                return [path] if path.is_symlink() else []
            if path not in self._listing.paths:
                raise
            logger.error("%s: %s; the next attempt is in %g s", path, _reason(error), _INTERVAL)
            return self._listing.paths[path]


def _contents(listing: _Listing, files: Mapping[Path, _File[P]]) -> Contents[P]:
    return {
        path: {file: files[file].good[0] for file in found if files[file].good} for path, found in listing.paths.items()
    }


def _log_failure(error: BaseException) -> None:
    with suppress(Exception):  # ignore the exceptions of log handlers
        logger.error(
            "cannot load changed files; the old contents stay in use: %s; the next attempt is in %g s",
            type(error).__name__,
            _INTERVAL,
        )


def _reason(error: Exception) -> str:
    """Return the reason of a failure for the log."""
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or type(error).__name__})"
    return str(error) if isinstance(error, ValueError | ConfigurationError) else type(error).__name__


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
            raise ConfigurationError(f"{name}: unexpected {each!r}; expected a list, for example {example}")
    return found

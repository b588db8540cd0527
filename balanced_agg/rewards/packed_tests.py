"""The tests of many programs in one file beside the data file, whose rows hold a reference to them and not the tests.

verl copies a row some twenty times on its way through the processes of a validation, and tests are gigabytes.

The file is a zip archive. A member is a ground truth as `program_tests.read_tests` takes it, named by its SHA-256. A
reference is JSON: {"tests_file": the file's name, "sha256": the member's}. It names no folder, so that both files can
be moved together: who reads it says in which folders the file may lie.
"""

import functools
import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from balanced_agg.rewards.errors import GraderFailed
from balanced_agg.untrusted import Unreadable, opened

SUFFIX = ".tests.zip"
MOST_BYTES = 2**30  # of one problem's tests
LONGEST_REFERENCE = 1000  # characters
LEVEL = 1  # of zlib, whose own takes six times as long for 6 % less
OPTION = "reward.custom_reward_function.reward_kwargs.tests_folders"
AGAIN = "put the file there that `balanced-agg prepare` wrote beside the data file, or prepare the data set again"


class Reference(NamedTuple):
    file: str
    sha256: str


class Writer:
    """Writes such a file at `path`, which will be named `name`. The same tests in the same order give the same bytes.

    To be used in a `with` statement, at whose end the file is complete.
    """

    def __init__(self, path: Path, name: str):
        self._name = name
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *exception: object) -> None:
        self._archive.close()

    def add(self, ground_truth: str) -> str:
        """Put these tests into the file, and return the reference to them."""
        content = ground_truth.encode()
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 not in self._archive.NameToInfo:
            self._archive.writestr(zipfile.ZipInfo(sha256), content, zipfile.ZIP_DEFLATED, LEVEL)
        return json.dumps({"tests_file": self._name, "sha256": sha256})


def reference_in(ground_truth: object) -> Reference | None:
    """The reference that a ground truth is; None if it is anything else, or names a file by more than its name."""
    if not isinstance(ground_truth, str) or len(ground_truth) > LONGEST_REFERENCE:
        return None
    try:
        record = json.loads(ground_truth)
        file, sha256 = record["tests_file"], record["sha256"]
        well_formed = Path(file).name == file and file.endswith(SUFFIX) and re.fullmatch("[0-9a-f]{64}", sha256)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Reference(file, sha256) if well_formed else None


def find(reference: Reference, folders: Sequence[str]) -> Path:
    """The file with these tests: the first of the folders that has one. Its table of contents alone is read.

    ValueError if there is none, or one cannot be read, or no folder is given.
    """
    if not folders:
        raise ValueError(
            f"the tests are in a file {reference.file}: set {OPTION} to a list of the folders it may be in"
        )
    others = []
    for path in (Path(folder, reference.file) for folder in folders):
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise Unreadable(f"{path} cannot be read: {error.strerror}") from None
        if reference.sha256 in _members(path, status.st_ino, status.st_mtime_ns, status.st_size):
            return path
        others.append(str(path))
    if others:
        what = f"{', '.join(others)} does not have the tests {reference.sha256[:12]}…"
    else:
        what = f"there is no {reference.file} in {', '.join(map(str, folders))}"
    raise ValueError(f"{what}: {AGAIN}")


@functools.lru_cache(maxsize=8)
def _members(path: Path, *state: int) -> frozenset[str]:
    with opened(path) as file:
        try:
            return frozenset(zipfile.ZipFile(file).namelist())
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise Unreadable(f"{path} cannot be read: {error}; {AGAIN}") from None


def read(reference: Reference, path: Path) -> str:
    """The tests, as they were written. ValueError for any others, GraderFailed if the disk fails."""
    try:
        with opened(path) as file, zipfile.ZipFile(file) as archive:
            member = archive.getinfo(reference.sha256)
            if member.file_size > MOST_BYTES:
                raise ValueError(f"more than {MOST_BYTES} bytes of tests")
            with archive.open(member) as packed:
                content = packed.read(member.file_size)  # and not without a size, which unpacks all there is
        if hashlib.sha256(content).hexdigest() != reference.sha256:
            raise ValueError("they are not those that were written")
        return content.decode()
    except OSError as error:
        raise GraderFailed(f"{path} could not be read: {error}") from error
    except (ValueError, KeyError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}, tests {reference.sha256[:12]}…: {error}; {AGAIN}") from error

"""Who may run a program, on which core, and what other users of the machine can do about that."""

import fcntl
import os
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

from balanced_agg.rewards import places
from balanced_agg.rewards.errors import GraderFailed
from balanced_agg.rewards.places import check_places, place
from balanced_agg.rewards.sandbox import check_sandbox

NOBODY = 65534
PRECIOUS = "precious"
LATER = time.monotonic() + 1e6


def soon():
    return time.monotonic() + 0.1


@pytest.fixture
def shared(monkeypatch, tmp_path):
    """A folder for temporary files in which all users may write, as /tmp is; its files are to be left alone."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    for parent in (tmp_path, *tmp_path.parents):  # pytest's are closed to other users
        if parent.owner() == folder.owner() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o111)
    monkeypatch.setattr(places.tempfile, "gettempdir", lambda: str(folder))
    return folder


@pytest.fixture
def victim(tmp_path):
    """A file of this user's, and the check that it is as it was."""
    file = tmp_path / "victim"
    file.write_text(PRECIOUS)
    yield file
    assert file.read_text() == PRECIOUS


def folder_in(shared):
    return shared / f"balanced_agg_sandboxes_{os.geteuid()}"


@pytest.fixture
def core_0(monkeypatch):
    """This process may use that core alone."""
    monkeypatch.setattr(places.os, "sched_getaffinity", lambda pid: {0})


def as_another_user(code):
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    change = f"import os\nos.umask(0)\nos.setgroups([])\nos.setgid({NOBODY})\nos.setuid({NOBODY})\n"
    subprocess.run([sys.executable, "-S", "-c", change + code], check=True, cwd="/")


FOLDERS = {
    "links to a file": "os.mkdir(folder, 0o777); [os.symlink(victim, os.path.join(folder, n)) for n in names]",
    "pipes": "os.mkdir(folder, 0o777); [os.mkfifo(os.path.join(folder, n), 0o666) for n in names]",
    "a folder of its own": "os.mkdir(folder, 0o700)",
    "a link to a folder": "os.mkdir(folder + '2', 0o777); os.symlink(folder + '2', folder)",
    "a link to nothing": "os.symlink(folder + '2', folder)",
    "a pipe": "os.mkfifo(folder, 0o666)",
    "a file": "open(folder, 'w').close()",
}


@pytest.mark.parametrize("plant", FOLDERS.values(), ids=FOLDERS)
def test_what_another_user_plants_is_refused_by_its_name_and_changes_nothing(shared, victim, plant):
    folder, names = str(folder_in(shared)), ["0", "line"]
    as_another_user(f"folder, victim, names = {folder!r}, {str(victim)!r}, {names!r}\n{plant}")
    for refuse in (check_places, check_sandbox, lambda: place(LATER).__enter__()):
        with pytest.raises(ValueError, match=rf"{folder} .*set TMPDIR to a folder of your own"):
            refuse()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755, 0o1777, 0o710, 0o701])
def test_a_folder_that_others_can_enter_is_refused(shared, mode):
    folder_in(shared).mkdir()
    folder_in(shared).chmod(mode)
    with pytest.raises(ValueError, match=rf"belongs to user {os.geteuid()} with mode {mode:o}"):
        check_places()


def test_the_folder_is_made_private_whatever_the_umask(shared):
    umask = os.umask(0)
    try:
        check_places()
        with place(LATER) as core:
            files = list(folder_in(shared).iterdir())
    finally:
        os.umask(umask)
    assert stat.S_IMODE(folder_in(shared).stat().st_mode) == 0o700
    assert {file.name for file in files} == {"line", str(core)}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest.mark.parametrize("name", ["line", "0"])
def test_a_link_in_the_folder_is_not_followed(shared, victim, core_0, name):
    """It may have been planted while the folder was open to others."""
    folder_in(shared).mkdir(mode=0o700)
    (folder_in(shared) / name).symlink_to(victim)
    with pytest.raises(ValueError, match=rf"{folder_in(shared) / name} is no file to lock"):
        place(LATER).__enter__()


def test_what_is_locked_is_neither_read_nor_written(shared, victim, core_0):
    folder_in(shared).mkdir(mode=0o700)
    (folder_in(shared) / "0").hardlink_to(victim)
    with place(LATER) as core:
        assert core == 0 and victim.read_text() == PRECIOUS


def test_nothing_in_the_folder_makes_anybody_wait_for_ever(shared, core_0):
    folder_in(shared).mkdir(mode=0o700)
    os.mkfifo(folder_in(shared) / "line")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder_in(shared) / "0"))
        with pytest.raises(ValueError, match="is no file to lock"):
            place(LATER).__enter__()
    (folder_in(shared) / "0").unlink()
    with place(LATER), pytest.raises(GraderFailed, match="no sandbox was free in time"):
        place(soon()).__enter__()


# --- whose turn it is


def test_each_core_is_held_once_and_only_cores_of_this_process_are(shared, monkeypatch):
    monkeypatch.setattr(places.os, "sched_getaffinity", lambda pid: {3, 5})
    with place(LATER) as one, place(LATER) as other:
        assert {one, other} == {3, 5}
        with pytest.raises(GraderFailed):
            place(soon()).__enter__()
        monkeypatch.setattr(places.os, "sched_getaffinity", lambda pid: {5, 7})  # a process that may use other cores
        with place(LATER) as third:
            assert third == 7


def test_who_comes_later_does_not_get_a_core_before_another_process_that_waits(shared):
    """The other process is first in line: it holds the file of that name while it looks for a core."""
    check_places()
    with (folder_in(shared) / "line").open("w") as line:
        fcntl.flock(line, fcntl.LOCK_EX)
        with pytest.raises(GraderFailed):
            place(soon()).__enter__()
    with place(LATER):
        pass


def test_threads_get_cores_in_the_order_in_which_they_came(shared, core_0):
    """Nearly: the system wakes those that wait for a lock in order, and one that has just come may be faster."""
    came, served = [], []

    def program(number):
        came.append(number)
        with place(LATER):
            served.append(number)

    threads = [threading.Thread(target=program, args=(number,)) for number in range(40)]
    with place(LATER):
        for number, thread in enumerate(threads):
            thread.start()
            while len(came) <= number:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert sorted(served) == sorted(came)
    places_off = [abs(served.index(number) - came.index(number)) for number in came]
    # 0 on a quiet machine; one thread that is overtaken by 18, at a load of 8, makes 1; any order makes 13.
    assert sum(places_off) / len(places_off) <= 2

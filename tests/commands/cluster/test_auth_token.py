"""Who holds the token: one file that no one but its owner reads, or nobody."""

import os
import stat
import subprocess

import pytest

from balanced_agg.commands.cluster import auth_token


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    file = tmp_path / "private/token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    return file


def test_a_new_token_is_its_owners_alone_whatever_the_umask(file):
    before = os.umask(0)
    try:
        assert auth_token.create() == file
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert len(bytes.fromhex(file.read_text())) == 32
    assert auth_token.require() == file


def test_two_tokens_differ_and_a_token_that_is_there_stays(file, tmp_path, monkeypatch):
    first = auth_token.create().read_text()
    assert auth_token.create().read_text() == first
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "other"))
    assert auth_token.create().read_text() != first


def test_the_file_is_the_one_that_ray_reads(file, tmp_path, monkeypatch):
    from ray._private.authentication.authentication_token_setup import _get_default_token_path
    from ray._raylet import AuthenticationTokenLoader

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    loader = AuthenticationTokenLoader.instance()
    for named in (str(file), ""):
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", named) if named else monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
        auth_token.create()
        loader.reset_cache()
        assert loader.has_token(ignore_auth_mode=True)
    loader.reset_cache()
    assert auth_token.token_file() == _get_default_token_path()


def test_ray_is_told_to_ask_for_the_token(monkeypatch):
    auth_token.create()
    auth_token.require()
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_a_token_that_others_could_read_is_replaced_unless_a_ray_of_this_user_runs(file, monkeypatch):
    runs = []
    monkeypatch.setattr(auth_token, "ray_runs", lambda: bool(runs))
    first = auth_token.create().read_text()
    file.chmod(0o644)
    runs.append("raylet")
    assert auth_token.create().read_text() == first
    runs.clear()
    assert auth_token.create().read_text() != first
    assert auth_token.require() == file
    file.write_text("")  # by a process that was killed
    assert len(auth_token.create().read_text()) == 64


def test_a_ray_of_this_user_is_found_by_its_processes(tmp_path):
    (tmp_path / "raylet").symlink_to("/bin/sleep")
    before = auth_token.ray_runs()
    process = subprocess.Popen([tmp_path / "raylet", "60"])
    try:
        assert auth_token.ray_runs()
    finally:
        process.kill()
        process.wait()
    assert auth_token.ray_runs() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o620])
def test_a_token_that_others_can_read_or_write_is_refused(file, mode):
    auth_token.create()
    file.chmod(mode)
    with pytest.raises(ValueError, match=rf"{file} has mode {mode:o}, .*chmod 600"):
        auth_token.require()


def test_no_token_is_refused_and_none_is_made(file):
    with pytest.raises(ValueError, match=rf"{file}.* does not exist; copy it from the head.*RAY_AUTH_TOKEN_PATH"):
        auth_token.require()
    assert not file.exists()


def test_an_empty_token_is_refused(file):
    auth_token.create().write_text("")
    with pytest.raises(ValueError, match="is empty"):
        auth_token.require()


def test_a_cluster_without_authentication_is_refused(monkeypatch):
    auth_token.create()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ValueError, match=r"RAY_AUTH_MODE=disabled.*unset it"):
        auth_token.require()

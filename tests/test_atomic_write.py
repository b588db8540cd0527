"""What is written through `atomic_write` is complete or not there, and nothing is left beside it."""

import pytest

from balanced_agg.atomic_write import atomic_write


def write(path, folder, content):
    if folder:
        path.mkdir()
        path = path / "inside"
    path.write_text(content)


def read(path):
    return (path / "inside" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_the_new_takes_the_place_of_the_old_and_a_failure_leaves_the_old(tmp_path, folder):
    target = tmp_path / "above" / "target"
    for content in ("first", "second"):
        with atomic_write(target) as temporary:
            write(temporary, folder, content)
            assert not target.exists() or read(target) == "first"
        assert read(target) == content
    with pytest.raises(KeyError), atomic_write(target) as temporary:
        write(temporary, folder, "third")
        raise KeyError
    assert read(target) == "second"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_the_old_stays_where_the_new_cannot_take_its_place(tmp_path, monkeypatch, folder):
    target = tmp_path / "target"
    write(target, folder, "first")

    def fails(*_):
        raise OSError("disk quota exceeded")

    with pytest.raises(OSError, match="quota"), atomic_write(target) as temporary:
        write(temporary, folder, "second")
        monkeypatch.setattr(type(target), "replace", fails)
    assert read(target) == "first"
    assert list(tmp_path.iterdir()) == [target]

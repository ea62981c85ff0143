"""Files are written whole or not at all, and a lock is held by one at a time."""

import errno
import os
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from miniclip import InputError
from miniclip.runtime import files
from miniclip.runtime.files import atomic, locked, write_atomically


def files_in(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())


def test_the_new_content_replaces_the_old_when_the_block_ends(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"  # readers still see the old content
        assert temporary.parent == tmp_path  # a rename is atomic only within a file system
    assert path.read_bytes() == b"new" and files_in(tmp_path) == ["file"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [RuntimeError, InputError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("before", [["file"], []])
def test_an_error_in_the_block_leaves_everything_as_it_was(tmp_path, error, before):
    path = tmp_path / "file"
    for name in before:
        (tmp_path / name).write_bytes(b"old")
    expected = InputError if error is OSError else error  # a full disk, say: the error names the path
    with pytest.raises(expected, match="why"), atomic(path) as temporary:
        temporary.write_bytes(b"half of the n")
        raise error(*([28] if error is OSError else []), "why")
    assert files_in(tmp_path) == before
    assert all((tmp_path / name).read_bytes() == b"old" for name in before)


def test_an_error_of_the_disk_names_the_file_and_the_reason(tmp_path):
    with pytest.raises(InputError, match="No space left") as error, atomic(tmp_path / "file"):
        raise OSError(28, "No space left on device")
    assert str(tmp_path / "file") in str(error.value)


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "directory").mkdir()
    (tmp_path / "plain").write_bytes(b"old")
    for path in (tmp_path / "absent" / "file", tmp_path / "directory", tmp_path / "plain" / "file"):
        with pytest.raises(InputError, match="cannot be written") as error:
            write_atomically(path, b"new")
        assert str(path) in str(error.value)
    assert files_in(tmp_path) == ["plain"]


def test_write_atomically_writes_the_bytes(tmp_path):
    for content in (b"a\r\n\x00\xff", b""):
        write_atomically(str(tmp_path / "file"), content)
        assert (tmp_path / "file").read_bytes() == content


# --------------------------------------------------------------------------------------------------- locks


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(50):
            with locked(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(most) == 400 and files_in(tmp_path) == []


def test_an_error_releases_the_lock(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), locked(tmp_path / "lock"):
            raise KeyError
    assert files_in(tmp_path) == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # about threads: this child only waits
@pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning")  # the same, from JAX, if another test has imported it
def test_children_of_its_holder_do_not_keep_a_lock(tmp_path):
    def work():
        with locked(tmp_path / "lock"):
            pass

    with locked(tmp_path / "lock"):
        waiting = threading.Thread(target=work)
        waiting.start()
        time.sleep(0.1)  # until it is waiting
        child = os.fork()
        if not child:
            time.sleep(20)
            os._exit(0)
    waiting.join(2)
    in_time = not waiting.is_alive()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    waiting.join()
    assert in_time and files_in(tmp_path) == []


def test_without_fcntl_a_windows_lock_is_waited_for(tmp_path, monkeypatch):
    asked = []

    def locking(descriptor, mode, count):
        asked.append((mode, count))
        if len(asked) < 3:
            raise OSError(errno.EDEADLK, "Resource deadlock avoided")  # Windows raises this after ten seconds

    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(files, "msvcrt", SimpleNamespace(locking=locking, LK_LOCK=1), raising=False)
    with locked(tmp_path / "lock"):
        assert asked == [(1, 1)] * 3

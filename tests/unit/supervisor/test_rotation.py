"""Rotation of logs: the file is copied and cut, so that its writer keeps it open."""

from pathlib import Path

from wsd.supervisor.logs.rotation import rotate


def test_rotation_keeps_some_files_and_lines_that_are_appended_meanwhile(tmp_path: Path) -> None:
    log = tmp_path / "worker-1.log"
    assert not rotate(log, 10, 2)
    with log.open("ab") as writer:
        for text in (b"first, long\n", b"second, long\n", b"third, long\n"):
            writer.write(text)
            writer.flush()
            assert rotate(log, 10, 2)
            assert not rotate(log, 10, 2)
        writer.write(b"now\n")
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {"worker-1.log": b"now\n", "worker-1.log.1": b"third, long\n", "worker-1.log.2": b"second, long\n"}


def test_rotation_without_backups_only_cuts(tmp_path: Path) -> None:
    log = tmp_path / "worker-1.log"
    log.write_text("long enough")
    assert rotate(log, 5, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["worker-1.log"]
    assert log.read_text() == ""

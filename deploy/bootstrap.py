"""Makes the virtual environment from the locks; run by any Python, so it imports nothing but the standard library.

What comes after (Kafka's jars, the chain, the start cache) is `deploy.setup`, which runs inside that environment.
Each step leaves a stamp with a digest of what it was made from; a step whose stamp still holds is skipped.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

OLDEST = (3, 11)
CHECKOUT = Path(__file__).resolve().parent.parent
LOCKS = CHECKOUT / "deploy" / "lock"
ENVIRONMENT = CHECKOUT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
STAMPS = ENVIRONMENT / ".parley"
LOG = STAMPS / "setup.log"
NEEDED_BYTES = 2 * 1024**3  # the environment takes 0.7 GB, and while it is made, pip's copies as much again


class SetupStoppedError(Exception):
    """Set-up cannot go on; the message tells a person what to do."""


def main() -> int:
    """Make what is missing; 0 if the environment is whole, 1 with a message if it cannot be made."""
    try:
        run_with_a_python_that_will_do()
        make_environment()
    except SetupStoppedError as reason:
        print(f"\nSet-up stopped: {reason}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\nSet-up stopped: {error}. Check the disk and who owns the checkout.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nSet-up interrupted; the next run goes on from here.", file=sys.stderr)
        return 130
    return 0


def run_with_a_python_that_will_do() -> None:
    """Go on under a newer Python of this machine if this one is too old."""
    if sys.version_info >= OLDEST:
        return
    for minor in range(19, OLDEST[1] - 1, -1):
        newer = shutil.which(f"python3.{minor}")
        if newer is not None and subprocess.run([newer, "-c", ""], check=False).returncode == 0:
            os.execv(newer, [newer, "-I", __file__])  # noqa: S606 - an argument list
    raise SetupStoppedError(
        f"this is Python {sys.version_info[0]}.{sys.version_info[1]}, and Parley needs 3.11 or newer.\n"
        "Install one, or name it: make setup PYTHON=/path/to/python3"
    )


def make_environment() -> None:
    """Bring the virtual environment to what the locks say."""
    steps = [
        Step("environment", "virtual environment", create_environment),
        Step("packages", "packages of the lock", install_packages, LOCKS / "requirements.txt"),
        Step("merkletools", "merkletools", install_merkletools, LOCKS / "merkletools.txt"),
        Step("project", "the project itself", install_project, CHECKOUT / "pyproject.toml"),
    ]
    # Whoever remakes one remakes all that stands on it.
    first = next((number for number, step in enumerate(steps) if not step.done()), len(steps))
    if first < len(steps):
        check_disk_space()
    for step in steps[first:]:
        step.run()


class Step:
    """One step of set-up, and the stamp that says what it was last made from."""

    def __init__(self, name: str, title: str, action: Callable[[], None], *sources: Path) -> None:
        self.stamp = STAMPS / name
        self.title = title
        self.action = action
        digest = hashlib.sha256(f"{CHECKOUT} {sys.version_info[:2]}".encode())
        for source in sources:
            digest.update(source.read_bytes())
        self.digest = digest.hexdigest()

    def done(self) -> bool:
        """Whether it was done from the same sources, by the same Python, in the same place."""
        return self.stamp.is_file() and self.stamp.read_text() == self.digest and os.access(PYTHON, os.X_OK)

    def run(self) -> None:
        """Do it, and say how long it took."""
        print(f"  {self.title} …", flush=True)
        began = time.monotonic()
        self.action()
        STAMPS.mkdir(exist_ok=True)
        self.stamp.write_text(self.digest)
        print(f"  {self.title}: {time.monotonic() - began:.0f} s", flush=True)


def check_disk_space() -> None:
    """Stop early rather than halfway through."""
    free = shutil.disk_usage(CHECKOUT).free
    if free < NEEDED_BYTES:
        raise SetupStoppedError(
            f"{CHECKOUT} has {free / 1024**3:.1f} GB of free disk space, and set-up needs "
            f"{NEEDED_BYTES / 1024**3:.0f} GB. Make room and run it again."
        )


def create_environment() -> None:
    """Make .venv, anew if it belongs to another Python or another place."""
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise SetupStoppedError(
            "this Python has no venv module. On Debian and Ubuntu: "
            f"apt install python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        )
    if not environment_is_ours():
        command = [sys.executable, "-I", "-m", "venv", "--clear", str(ENVIRONMENT)]
        run(command, "The virtual environment cannot be made")


def environment_is_ours() -> bool:
    """Whether .venv exists, runs, is of this Python's version, and was made here."""
    question = "import sys; print(sys.version_info[:2], sys.prefix)"
    try:
        answer = subprocess.run(
            [str(PYTHON), "-I", "-c", question], stdout=subprocess.PIPE, check=False, encoding="utf-8"
        )
        first_line = (ENVIRONMENT / "bin" / "pip").read_text(encoding="utf-8").partition("\n")[0]
    except OSError:
        return False
    # Its scripts name the place where it was made.
    return answer.stdout.strip() == f"{sys.version_info[:2]} {ENVIRONMENT}" and str(ENVIRONMENT) in first_line


def install_packages() -> None:
    """Install the lock; every file must have the digest that the lock names."""
    lock = LOCKS / "requirements.txt"
    total = len(re.findall(r"^[a-z0-9].*==", lock.read_text(encoding="utf-8"), re.MULTILINE))
    # The lock is whole, so there is nothing to resolve; and what is imported first is compiled then.
    pip("--require-hashes", "--no-deps", "--no-compile", "-r", str(lock), total=total)


def install_merkletools() -> None:
    """Without what it declares: its ``pysha3`` no longer builds, and it works without."""
    pip("--require-hashes", "--no-deps", "--no-build-isolation", "-r", str(LOCKS / "merkletools.txt"))


def install_project() -> None:
    """Editable: the services run from the checkout."""
    pip("--no-deps", "--no-build-isolation", "--editable", str(CHECKOUT))


def pip(*arguments: str, total: int = 0) -> None:
    """``pip install`` with these arguments, showing how far it is."""
    command = [str(PYTHON), "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    run([*command, "--progress-bar", "off", *arguments], "A package cannot be installed", total=total)


def run(command: list[str], failure: str, total: int = 0) -> None:
    """Run a program; of its output only a count is shown, unless it fails."""
    lines = []
    seen = 0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if total and line.startswith(("Collecting ", "Requirement already satisfied: ")):
                seen += 1
                show(f"    {seen} of {total} looked up", last=seen % 25 == 0)
            if line.startswith("Installing collected packages"):
                show("    installing", last=True)
    if process.returncode == 0:
        return
    STAMPS.mkdir(parents=True, exist_ok=True)
    LOG.write_text("".join(lines), encoding="utf-8")
    telling = [line for line in lines if "error" in line.lower() or "sha256" in line]
    raise SetupStoppedError(
        f"{failure}.\n{''.join((telling or lines)[-8:])}"
        f"Check the network, the disk and your proxy, and run it again; all that was said is in {LOG}."
    )


def show(text: str, *, last: bool) -> None:
    """A line that is written over on a terminal; elsewhere only its last state is printed."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="\n" if last else "", flush=True)
    elif last:
        print(text, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

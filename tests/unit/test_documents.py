"""The documents name only what exists: files, commands, modules, links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
class TestADocument:
    def test_names_files_that_are_there(self, document: Path) -> None:
        text = document.read_text(encoding="utf-8")
        named = re.findall(
            r"(?<![\w./])((?:tests|docs|deploy|parley|streams|schemas|router|firehose)/[\w./-]*\w\.\w+)", text
        )
        assert [path for path in named if not (CHECKOUT / path).exists()] == []

    def test_links_to_what_is_there(self, document: Path) -> None:
        links = re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8"))
        assert [link for link in links if not (document.parent / link).exists()] == []

    def test_names_targets_that_make_has(self, document: Path) -> None:
        targets = set(
            re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        )
        named = set(re.findall(r"(?:^|`)make ([a-z]+)", document.read_text(encoding="utf-8"), re.MULTILINE))
        assert named - targets == set()


def test_the_commands_of_the_how_to_exist() -> None:
    text = (CHECKOUT / "docs" / "how-to.md").read_text(encoding="utf-8")
    commands = set(re.findall(r"^parley ((?:tx )?[a-z]+)", text, re.MULTILINE))
    assert commands
    for command in sorted(commands):
        run = subprocess.run(
            [sys.executable, "-m", "parley.cli", *command.split(), "--help"],
            capture_output=True,
            check=False,
            cwd=CHECKOUT,
        )
        assert run.returncode == 0, f"parley {command}: {run.stderr.decode()}"

"""The compiled router: used only while it is of the present sources, and done without where it cannot be built."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy import compiled
from deploy.compiled import HOT_MODULES, compiled_root, compiled_tree, main, require_compiler
from deploy.errors import SetupError
from deploy.folder import CHECKOUT
from deploy.services import Service, Services
from router.service import is_compiled


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Three packages, and the schemas where they are in ours: in a folder that `parley` links to."""
    root = tmp_path / "checkout"
    for file in (
        "parley/keys.py",
        "schemas/codec.py",
        "schemas/a.1.avsc",
        "streams/state.py",
        "router/core.py",
    ):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(f"{file} as it was")
    (root / "parley" / "schemas").symlink_to("../schemas")
    return root


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    folder = tmp_path / "runtime"
    folder.mkdir()
    return folder


def build(checkout: Path, runtime: Path) -> Path:
    """A tree that says it was built from these sources."""
    part = compiled_tree(checkout, runtime)
    part.path.mkdir()
    (runtime / "compiled.stamp").write_text(part.source)
    return part.path


class TestTheRoot:
    def test_is_the_checkout_where_nothing_was_built(self, checkout: Path, runtime: Path) -> None:
        assert compiled_root(checkout, runtime) == checkout

    def test_is_the_tree_while_it_is_of_the_present_sources(self, checkout: Path, runtime: Path) -> None:
        tree = build(checkout, runtime)
        assert compiled_root(checkout, runtime) == tree

    @pytest.mark.parametrize(
        "file", ["parley/keys.py", "schemas/codec.py", "schemas/a.1.avsc", "router/core.py"]
    )
    def test_is_the_checkout_once_a_source_has_changed(
        self, checkout: Path, runtime: Path, file: str
    ) -> None:
        tree = build(checkout, runtime)
        (checkout / file).write_text("otherwise")
        assert compiled_root(checkout, runtime) == checkout
        (checkout / file).write_text(f"{file} as it was")
        assert compiled_root(checkout, runtime) == tree

    def test_is_the_checkout_once_a_source_has_come_gone_or_another_name(
        self, checkout: Path, runtime: Path
    ) -> None:
        build(checkout, runtime)
        source = checkout / "streams" / "state.py"
        source.rename(source.with_name("store.py"))
        assert compiled_root(checkout, runtime) == checkout
        source.with_name("store.py").unlink()
        assert compiled_root(checkout, runtime) == checkout
        source.write_text("streams/state.py as it was")
        source.with_name("another.py").touch()
        assert compiled_root(checkout, runtime) == checkout

    def test_is_the_checkout_under_another_python_or_after_another_mypy(
        self, checkout: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        build(checkout, runtime)
        with monkeypatch.context() as patch:
            patch.setattr(compiled, "version", lambda _: "another")
            assert compiled_root(checkout, runtime) == checkout
        with monkeypatch.context() as patch:
            patch.setattr(sys, "version", "another")
            assert compiled_root(checkout, runtime) == checkout

    def test_is_the_checkout_where_the_tree_has_been_removed(self, checkout: Path, runtime: Path) -> None:
        build(checkout, runtime).rmdir()
        assert compiled_root(checkout, runtime) == checkout

    def test_does_not_depend_on_what_python_keeps_beside_the_sources(
        self, checkout: Path, runtime: Path
    ) -> None:
        tree = build(checkout, runtime)
        (checkout / "router" / "__pycache__").mkdir()
        (checkout / "router" / "__pycache__" / "core.cpython-311.pyc").touch()
        assert compiled_root(checkout, runtime) == tree


class TestBuilding:
    @pytest.fixture(autouse=True)
    def elsewhere(self, checkout: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not in the runtime folder of this checkout."""
        part = compiled_tree(checkout, runtime)
        monkeypatch.setattr(compiled, "compiled_tree", lambda *_: part)
        monkeypatch.setattr(compiled, "RUNTIME", runtime)

    def test_without_a_compiler_is_told_with_what_to_install_and_is_no_failure(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runtime: Path
    ) -> None:
        monkeypatch.setattr(shutil, "which", lambda _: None)
        assert main() == 0
        (told,) = capsys.readouterr().out.splitlines()
        assert "router runs interpreted" in told
        assert "no C compiler" in told
        assert "install" in told
        assert list(runtime.iterdir()) == []

    def test_without_pythons_headers_is_told_with_the_package_to_install(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: name)
        monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
        assert main() == 0
        (told,) = capsys.readouterr().out.splitlines()
        assert "no Python.h" in told
        assert f"python3.{sys.version_info[1]}-dev" in told

    def test_that_fails_is_told_with_what_the_compiler_said_and_leaves_nothing(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], runtime: Path
    ) -> None:
        monkeypatch.setattr(compiled, "require_compiler", lambda: "cc")
        failed = SimpleNamespace(returncode=1, stdout="router/core.py:1: error: it makes no sense")
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
        assert main() == 0
        told = capsys.readouterr().out
        assert "router runs interpreted" in told
        assert "it makes no sense" in told
        assert {path.name for path in runtime.iterdir()} == {".lock"}

    def test_copies_every_source_and_is_done_only_once(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        checkout: Path,
        runtime: Path,
    ) -> None:
        monkeypatch.setattr(compiled, "require_compiler", lambda: "cc")
        commands: list[list[str]] = []

        def run(command: list[str], *, cwd: Path, **_: object) -> SimpleNamespace:
            commands.append(command)
            (cwd / "build").mkdir()
            return SimpleNamespace(returncode=0, stdout="")

        monkeypatch.setattr(subprocess, "run", run)
        assert (main(), main()) == (0, 0)
        assert len(commands) == 1
        assert set(HOT_MODULES) < set(commands[0])
        tree = runtime / "compiled"
        assert compiled_root(checkout, runtime) == tree
        for file in ("parley/keys.py", "parley/schemas/a.1.avsc", "streams/state.py", "router/core.py"):
            assert (tree / file).read_text().endswith("as it was")
        assert not (tree / "parley" / "schemas").is_symlink()
        assert "def read_Envelope(" in (tree / compiled.HOT_CODEC).read_text()
        assert not (tree / "build").exists()


def test_another_compiler_than_python_was_built_with_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _: "icc -pthread")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: "/include")
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    monkeypatch.setattr(shutil, "which", lambda name: name if name in {"icc", "gcc"} else None)
    assert require_compiler() == "icc -pthread"
    monkeypatch.setattr(shutil, "which", lambda name: name if name == "gcc" else None)
    assert require_compiler() == "gcc"
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(SetupError):
        require_compiler()


def test_hot_modules_are_there() -> None:
    assert [name for name in HOT_MODULES if not (CHECKOUT / name).exists()] == [compiled.HOT_CODEC]


def test_the_checkout_itself_is_not_compiled() -> None:
    assert not is_compiled()


def test_services_whose_package_the_tree_lacks_run_from_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "router").mkdir()
    services = Services(SimpleNamespace(), (), tmp_path)  # type: ignore[arg-type]
    homes = {
        module: services._home(Service("any", module, {}))
        for module in ("router", "router.delivery", "blockbuilder", "anchor.ledger")
    }
    assert homes == {
        "router": tmp_path,
        "router.delivery": tmp_path,
        "blockbuilder": CHECKOUT,
        "anchor.ledger": CHECKOUT,
    }

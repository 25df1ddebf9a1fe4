"""What these tests run is machine code: without this, they might prove the sources over again."""

from __future__ import annotations

from importlib import import_module
from importlib.machinery import ExtensionFileLoader
from pathlib import Path

import pytest

from deploy.compiled import HOT_MODULES, compiled_root
from deploy.folder import CHECKOUT
from parley.schemas import Message, codec
from router import service
from streams import tally

ROOT = compiled_root()


@pytest.mark.parametrize("file", HOT_MODULES)
def test_every_hot_module_is_machine_code_of_the_tree(file: str) -> None:
    module = import_module(file.removesuffix(".py").replace("/", "."))
    assert module.__spec__ is not None
    assert isinstance(module.__spec__.loader, ExtensionFileLoader)
    assert module.__file__ is not None
    assert Path(module.__file__).is_relative_to(ROOT)


def test_the_tree_is_of_the_present_sources() -> None:
    assert ROOT != CHECKOUT


def test_the_router_tells_that_it_is_compiled() -> None:
    assert service.is_compiled()


def test_the_codec_takes_the_compiled_functions() -> None:
    compiled = import_module(codec.COMPILED)
    assert codec._ENCODERS[Message] is compiled.write_Message


def test_what_is_not_hot_comes_from_the_tree_too() -> None:
    assert tally.__file__ is not None
    assert Path(tally.__file__).is_relative_to(ROOT)


def test_nothing_of_the_build_is_left_in_the_tree() -> None:
    assert not list(ROOT.rglob("*.c"))
    assert not (ROOT / "build").exists()

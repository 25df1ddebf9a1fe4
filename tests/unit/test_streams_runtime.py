"""How services start and end: exit codes, settings, signals, crash points, and what driver errors turn into."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from confluent_kafka import KafkaError
from pydantic_settings import SettingsConfigDict

from streams.crashpoint import VARIABLE
from streams.errors import FencedError, ProvisioningError, SessionLostError, StreamError
from streams.outcome import stream_error
from streams.runtime import EXIT_FAILED, EXIT_SETTINGS, Stop, run_service, serve_metrics
from streams.settings import ServiceSettings


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="TOY_")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    password = tmp_path / "password"
    password.write_text("secret\n")
    return Settings(kafka_bootstrap="localhost:1", kafka_username="toy", kafka_password_file=password)


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    for number, handler in signals.items():
        signal.signal(number, handler)


def test_a_service_that_returns_ends_with_0(settings: Settings) -> None:
    assert run_service("toy", lambda: settings, lambda _settings, _stop: None, []) == 0


def test_an_error_of_ours_is_one_line_and_exit_code_1(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_settings: Settings, _stop: Stop) -> None:
        raise ProvisioningError("topic ingest is missing; provision the topics first")

    assert run_service("toy", lambda: settings, fail, []) == EXIT_FAILED
    captured = capsys.readouterr()
    assert captured.err == "toy: topic ingest is missing; provision the topics first\n"
    assert json.loads(captured.out)["event"] == "service.failed"


def test_wrong_settings_are_named_one_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOY_METRICS_PORT", "70000")
    code = run_service("toy", Settings, lambda _settings, _stop: None, [])
    lines = capsys.readouterr().err.splitlines()
    assert code == EXIT_SETTINGS
    assert "toy: setting metrics_port: Input should be less than or equal to 65535" in lines
    assert "toy: setting kafka_bootstrap: Field required" in lines


def test_check_shows_the_settings_and_no_secret(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(_settings: Settings, _stop: Stop) -> None:
        raise AssertionError

    assert run_service("toy", lambda: settings, never, ["--check"]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["kafka_username"] == "toy"
    assert "secret" not in shown


def test_settings_give_the_connection_with_the_password_from_its_file(settings: Settings) -> None:
    assert settings.connection().password == "secret"


def test_a_password_file_that_is_missing_is_told(settings: Settings) -> None:
    settings.kafka_password_file.unlink()
    with pytest.raises(StreamError, match="cannot be read: No such file"):
        settings.connection()


def test_a_metrics_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StreamError, match=f"port {port}: Address already in use"):
            serve_metrics(port)


def test_a_signal_ends_the_wait() -> None:
    stop = Stop()
    stop.on_signals()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.wait(60)
    assert stop.is_set()


def test_a_wait_without_a_signal_ends_by_itself() -> None:
    assert not Stop().wait(0)


CRASHING = """
from streams.crashpoint import crash_point
for turn in range(4):
    print(turn, flush=True)
    crash_point("other")
    crash_point("here")
"""


@pytest.mark.parametrize(
    ("place", "turns", "code"),
    [("here", 1, -9), ("here:3", 3, -9), ("elsewhere", 4, 0), ("", 4, 0)],
)
def test_a_crash_point_kills_at_its_time_and_does_nothing_otherwise(
    place: str, turns: int, code: int
) -> None:
    result = subprocess.run(
        [sys.executable, "-c", CRASHING],
        env=os.environ | {VARIABLE: place},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert len(result.stdout.splitlines()) == turns
    assert result.returncode == code


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError._FENCED, FencedError),
        (KafkaError.FENCED_INSTANCE_ID, FencedError),
        (KafkaError._FATAL, FencedError),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, ProvisioningError),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, ProvisioningError),
        (KafkaError._TIMED_OUT, SessionLostError),
        (KafkaError.ILLEGAL_GENERATION, SessionLostError),
        (KafkaError._AUTO_OFFSET_RESET, StreamError),
    ],
)
def test_a_driver_error_becomes_the_error_that_says_what_to_do(code: int, kind: type[StreamError]) -> None:
    assert type(stream_error(KafkaError(code), "testing")) is kind

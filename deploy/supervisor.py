"""The process of a backbone that stays: runs the stack and the services, and starts again what dies."""

from __future__ import annotations

import os
import time
from typing import Final

from deploy.backbone import Backbone
from deploy.compiled import compiled_root
from deploy.folder import StackFolder
from deploy.inventory import BackboneFiles, anchoring_account, backbone_services
from deploy.process import PidRecord
from deploy.resident import FAILED, NAME, UP
from deploy.services import Services
from deploy.stack import Stack, StackSettings
from parley.errors import ParleyError
from streams.runtime import Stop

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0


def supervise(folder: StackFolder) -> int:
    """Run the backbone until SIGTERM or SIGINT; the exit code.

    A service that ends is started again, after 1 s, then 2, 4, … 30 s. When a server of the stack ends, all is
    stopped: what is left could only fail.
    """
    stop = Stop()
    stop.on_signals()
    folder.create()
    settings = StackSettings()
    stack = Stack(folder, settings)
    services = None
    pid_file = folder.pid_file(NAME)
    try:
        services = _start(stack, settings)
        _say(UP)
        _watch(stack, services, stop)
        _say("Stopped.")
    except ParleyError as error:
        _say(f"{FAILED if services is None else 'Stopped, because '}{error}")
        return 1
    finally:
        if services is not None:
            services.stop()
        stack.stop()
        if (record := PidRecord.read(pid_file)) is not None and record.pid == os.getpid():
            pid_file.unlink()
    return 0


def _start(stack: Stack, settings: StackSettings) -> Services:
    """Everything, running."""
    folder = stack.folder
    _say("Starting Kafka, the database and the chain …")
    stack.start()
    PidRecord.of(os.getpid(), None).write(folder.pid_file(NAME))
    backbone = Backbone(
        folder,
        stack.kafka.admin,
        pipelines=settings.pipelines,
        durable=stack.endpoints.flush,
        quotas=stack.client_quotas,
    )
    _say("Making topics and users …")
    backbone.provision([anchoring_account(folder)])
    _say("Starting the services …")
    files = BackboneFiles(folder.root)
    described = backbone_services(stack, backbone, files, routers=settings.routers, metrics=True)
    services = Services(folder, described, compiled_root())
    services.start()
    return services


def _watch(stack: Stack, services: Services, stop: Stop) -> None:
    """Return when asked to stop; raises StartError when a server of the stack ends."""
    pauses: dict[str, float] = {}
    due: dict[str, float] = {}
    while not stop.wait(_FIRST_PAUSE / 2):
        stack.check()
        for name in services.ended():
            if name not in due:
                pauses[name] = min(_LONGEST_PAUSE, 2 * pauses.get(name, _FIRST_PAUSE / 2))
                due[name] = time.monotonic() + pauses[name]
                _say(f"{services.process(name).obituary()}\nStarting {name} again in {pauses[name]:.0f} s.")
            elif time.monotonic() >= due[name]:
                del due[name]
                services.restart(name)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - its output is the log of the backbone

"""Private deals, channels and disclosures on a running backbone; a regulator reads by grant and by disclosure."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from parley.cli import main
from parley.deal import Received
from parley.identifiers import transaction_text
from parley.keystore import Cost, Keystore
from parley.reading import Access
from streams.catalogue import Role
from tests.fix_backbone import RunningBackbone
from tests.synthetic_ledger import encryption_key, signing_key

pytestmark = pytest.mark.timeout(180)

MINUTES = timedelta(minutes=5)


class Regulator:
    """A regulator's terminal: a participant's keys, and a Kafka user that may follow the firehose."""

    def __init__(self, backbone: RunningBackbone, folder: Path, name: str) -> None:
        backbone.join(name)
        backbone.join_reader(f"{name}-watches", Role.REGULATOR)
        self._profile = folder / "regulator.toml"
        (folder / "kafka.password").write_text(f"password-of-{name}-watches")
        (folder / "keys.password").write_text("open sesame")
        self._profile.write_text(
            f'participant = "{name}"\nusername = "{name}-watches"\nregistrar = "{backbone.registrar.hex()}"\n'
            f'bootstrap = "{backbone.access(name).bootstrap}"\npassword_file = "kafka.password"\n'
            'keystore = "regulator.keys"\nkeystore_password_file = "keys.password"\n'
        )
        store = Keystore.create(folder / "regulator.keys", name, "open sesame", cost=Cost(1, 8192))
        store.add("signing-1", signing_key(name))
        store.add("encryption-1", encryption_key(name))
        store.save()

    def run(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
        capsys.readouterr()
        code = main([*arguments, "--profile", str(self._profile), "--json"])
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return [json.loads(line) for line in shown.out.splitlines()]


def said(rows: list[dict[str, object]]) -> list[tuple[object, object]]:
    return [(row["content"], row["access"]) for row in rows if row["event"] == "message"]


def by(access: Access, *words: str) -> list[tuple[object, object]]:
    return [(word, access) for word in words]


async def test_a_private_deal_goes_on_after_a_restart_and_its_regulator_reads_it(
    running_backbone: RunningBackbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    regulator = Regulator(running_backbone, tmp_path, "granted-r")
    running_backbone.join("private-a", "private-b")
    async with running_backbone.connect("private-a") as a:
        mine = await a.open(
            ["private-b"], kind="dvp", deadline=MINUTES, content="98.75", readers=["granted-r"], padded=True
        )
        async with running_backbone.connect("private-b") as b:
            theirs = await anext(b.opened())
            assert [message.text for message in theirs.messages] == ["98.75"]
        async with running_backbone.connect("private-b") as b:
            again = b.deal(mine.id)
            assert again is not None
            assert again.messages[0].text == "98.75"
            await again.send("98.80")
            assert (await anext(mine)).text == "98.80"
            hidden = await mine.send("for us alone", readers=["private-b"])
            assert (await anext(again)).text == "for us alone"
            await again.finish("done")
    assert hidden.message.text == "for us alone"
    rows = regulator.run(capsys, "tx", "show", transaction_text(mine.id))
    assert said(rows) == [*by("GRANT", "98.75", "98.80"), (None, "NONE"), *by("GRANT", "done")]
    watched = regulator.run(capsys, "watch", "--once", "--decrypt")
    assert said([row for row in watched if row["transaction"] == transaction_text(mine.id)]) == said(rows)


async def test_a_channel_changes_and_a_regulator_reads_what_was_disclosed_of_it(
    running_backbone: RunningBackbone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    regulator = Regulator(running_backbone, tmp_path, "disclosed-r")
    names = ("channel-a", "channel-b", "channel-c", "channel-d")
    running_backbone.join(*names)
    async with running_backbone.connect("channel-a") as a, running_backbone.connect("channel-c") as c:
        channel = await a.create_channel("syndicate", ["channel-b", "channel-c"])
        first = channel.epoch.transaction_id
        async with running_backbone.connect("channel-b") as b:
            (theirs,) = b.channels
            await theirs.post("while c was here")
        await channel.remove("channel-c")
        await channel.add("channel-d")
        async with running_backbone.connect("channel-d") as d:
            (theirs,) = d.channels
            assert (theirs.name, theirs.epoch.number) == ("syndicate", 2)
            await theirs.post("hello from d")
        assert (await anext(channel.deal)).text == "hello from d"
        heard = [await anext(c.inbox()) for _ in range(3)]
        assert [event.message.text for event in heard if isinstance(event, Received)] == [
            '{"name": "syndicate"}',
            "while c was here",
            "",
        ]
        (left,) = c.channels
        assert left.epoch.number == 0
        assert [row[0] for row in said(regulator.run(capsys, "tx", "show", transaction_text(first)))] == [
            None
        ] * 3
        await left.disclose(to="disclosed-r", statement="request 17/2026")
    rows = regulator.run(capsys, "tx", "show", transaction_text(first))
    assert said(rows) == by("DISCLOSURE", '{"name": "syndicate"}', "while c was here", "")
    last = regulator.run(capsys, "tx", "show", transaction_text(channel.epoch.transaction_id))
    assert {row[0] for row in said(last)} == {None}

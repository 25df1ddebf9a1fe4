"""Private deals with hidden parties: the grant that reads them names nobody, and what is said has the length of a power of two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, TypeVar

import pytest

import parley
from parley import Hidden
from parley.client import Participant
from parley.errors import ChannelError, EncryptionError, GrantError
from parley.events import prove_spoken, read_spoken
from parley.grants import ANONYMOUS, KeyRing, check_grants, make_grants, open_grant
from parley.keys import EncryptionKey, public_key
from parley.reading import Reader
from parley.schemas import Encryption, FirehoseEvent, KeyGrant, Message, decode
from tests.dialogue import Dialogue
from tests.hiding import sealed_to
from tests.memory_backbone import MemoryBackbone
from tests.private_speech import NOW, Room, keys_of, read, reader
from tests.synthetic_ledger import encryption_key, signing_key

T = TypeVar("T")
MINUTES = timedelta(minutes=5)
SECRET = "who buys 10 million?"
ADDRESS = sealed_to("beta", sender="alpha").text


async def next_of(events: AsyncIterator[T]) -> T:
    async with asyncio.timeout(5):
        return await anext(events)


@pytest.fixture
def backbone() -> MemoryBackbone:
    backbone = MemoryBackbone("alpha", "beta", "gamma", pipelines=2)
    backbone.admit("regulator", "REGULATOR")
    return backbone


def connected(
    backbone: MemoryBackbone, name: str, keys: Sequence[EncryptionKey] | None = None
) -> Participant:
    return parley.connect(
        backbone.transport(),
        participant=name,
        key=signing_key(name),
        registrar=backbone.registrar.public,
        decryptor=KeyRing([encryption_key(name)] if keys is None else keys),
        clock=lambda: backbone.now,
    )


@pytest.fixture
async def banks(backbone: MemoryBackbone) -> AsyncIterator[tuple[Participant, Participant, Participant]]:
    async with AsyncExitStack() as stack:
        alpha, beta, gamma = [
            await stack.enter_async_context(connected(backbone, name)) for name in ("alpha", "beta", "gamma")
        ]
        yield alpha, beta, gamma


Banks = tuple[Participant, Participant, Participant]


def said(backbone: MemoryBackbone) -> list[Message]:
    """Every message on the record, its signatures verified."""
    found = []
    for pipeline in backbone.pipelines:
        for data in pipeline.firehose:
            event = decode(data, FirehoseEvent)
            spoken = read_spoken(event)
            if spoken is not None:
                prove_spoken(event, spoken, backbone.directory)
                found.append(spoken.message)
    return found


def encryption_of(message: Message) -> Encryption:
    assert message.encryption is not None
    return message.encryption


def everything(backbone: MemoryBackbone) -> bytes:
    return b"".join(data for pipeline in backbone.pipelines for data in pipeline.firehose)


async def test_a_hidden_party_reads_and_answers_a_private_deal(
    banks: Banks, backbone: MemoryBackbone
) -> None:
    alpha, beta, gamma = banks
    mine = await alpha.open(
        [Hidden("beta"), "gamma"], kind="otc", deadline=MINUTES, content=SECRET, private=True, padded=True
    )
    assert b"beta" not in everything(backbone)
    theirs = await next_of(beta.opened())
    assert theirs.messages[0].text == SECRET
    await theirs.send("we do, and say it to all")
    assert (await next_of(mine)).text == "we do, and say it to all"
    thirds = await next_of(gamma.opened())
    assert (await next_of(thirds)).text == "we do, and say it to all"
    await mine.finish("done")
    assert (await next_of(theirs)).text == "done"
    assert [len(message.content) for message in said(backbone)] == [256] * 3
    assert SECRET.encode() not in everything(backbone)


async def test_its_grant_tells_as_little_as_its_address(banks: Banks, backbone: MemoryBackbone) -> None:
    await banks[0].open([Hidden("beta"), "gamma"], kind="otc", deadline=MINUTES, content=SECRET, private=True)
    (opening,) = said(backbone)
    assert opening.terms is not None
    hidden = opening.terms.parties[1].participant
    grants = encryption_of(opening).grants
    assert [grant.reader for grant in grants] == ["alpha", hidden, "gamma"]
    assert grants[1].key_id == ANONYMOUS
    assert bytes(encryption_key("beta").id) not in everything(backbone)
    assert len({len(grant.sealed_key) for grant in grants}) == 1


async def test_of_two_keys_a_hidden_party_is_granted_the_newest_alone(backbone: MemoryBackbone) -> None:
    """How many it has might tell who it is."""
    old, new = encryption_key("beta"), encryption_key("beta's other device")
    before = backbone.directory.entry("beta")
    assert before is not None
    entry = before._replace(
        encryption_keys=(*before.encryption_keys, public_key(new.public)),
        previous=backbone.directory.version_of("beta"),
    )
    backbone.change(entry, signing_key("beta"), backbone.registrar)
    async with connected(backbone, "alpha") as alpha, connected(backbone, "beta", [old, new]) as beta:
        await alpha.open([Hidden("beta")], kind="otc", deadline=MINUTES, content=SECRET, private=True)
        (opening,) = said(backbone)
        assert len(encryption_of(opening).grants) == 2
        assert (await next_of(beta.opened())).messages[0].text == SECRET
    assert read(Reader("beta", KeyRing([old])), opening).content is None


async def test_an_old_key_of_a_hidden_party_goes_on_opening_what_it_was_granted(
    banks: Banks, backbone: MemoryBackbone
) -> None:
    await banks[0].open([Hidden("beta")], kind="otc", deadline=MINUTES, content=SECRET, private=True)
    (opening,) = said(backbone)
    ring = KeyRing([encryption_key("newest"), encryption_key("newer"), encryption_key("beta")])
    assert read(Reader("beta", ring), opening).content == SECRET.encode()


async def test_nobody_else_reads_it_and_a_regulator_by_its_own_grant_does(
    banks: Banks, backbone: MemoryBackbone
) -> None:
    await banks[0].open([Hidden("beta")], kind="otc", deadline=MINUTES, content=SECRET, readers=["regulator"])
    (opening,) = said(backbone)
    assert read(reader("regulator"), opening).content == SECRET.encode()
    nobody = read(reader("gamma"), opening)
    assert nobody.content is None
    assert "not readable by gamma" in str(nobody.problem)


async def test_words_for_a_hidden_party_alone_name_it_to_nobody(
    banks: Banks, backbone: MemoryBackbone
) -> None:
    alpha, beta, gamma = banks
    mine = await alpha.open([Hidden("beta"), "gamma"], kind="otc", deadline=MINUTES, content="in clear")
    theirs, thirds = await next_of(beta.opened()), await next_of(gamma.opened())
    await mine.send("between us", readers=["beta"])
    assert b"beta" not in everything(backbone)
    assert bytes(encryption_key("beta").id) not in everything(backbone)
    assert (await next_of(theirs)).text == "between us"
    assert (await next_of(thirds)).problem is not None


async def test_a_deal_on_a_channel_hides_which_member_is_asked(
    banks: Banks, backbone: MemoryBackbone
) -> None:
    alpha, beta, _ = banks
    channel = await alpha.create_channel("syndicate", ["beta", "gamma"])
    before = len(everything(backbone))
    await alpha.open([Hidden("beta")], kind="otc", deadline=MINUTES, content=SECRET, channel=channel)
    assert b"beta" not in everything(backbone)[before:]
    async for deal in beta.opened():
        if deal.kind == "otc":
            assert deal.messages[0].text == SECRET
            break
    assert read_as_member(backbone, "gamma") == SECRET.encode()


def read_as_member(backbone: MemoryBackbone, name: str) -> bytes | None:
    by = reader(name)
    return [read(by, message).content for message in said(backbone)][-1]


async def test_only_a_member_can_be_hidden_on_a_channel(banks: Banks) -> None:
    alpha = banks[0]
    channel = await alpha.create_channel("pair", ["gamma"])
    with pytest.raises(ChannelError, match="beta cannot read"):
        await alpha.open([Hidden("beta")], kind="otc", deadline=MINUTES, content=SECRET, channel=channel)


async def test_who_has_no_encryption_key_cannot_be_hidden_in_private(backbone: MemoryBackbone) -> None:
    backbone.admit("keyless", "OPERATOR")
    async with connected(backbone, "alpha") as alpha:
        with pytest.raises(EncryptionError, match="keyless has no encryption key"):
            await alpha.open([Hidden("keyless")], kind="otc", deadline=MINUTES, content=SECRET, private=True)
    assert said(backbone) == []


class TestAnAnonymousGrant:
    """Of a private deal that alpha opens with a hidden party."""

    def opening(self, *readers: str, seed: str = "hidden") -> tuple[Room, Message]:
        room = Room("alpha", [ADDRESS], seed=seed)
        room.open()
        ((_, key),) = keys_of("beta")
        return room, self.granted(room, [(reader, key) for reader in readers])

    def granted(self, room: Room, readers: list[tuple[str, Any]]) -> Message:
        clear = Dialogue.between("alpha", ADDRESS, opened_at=NOW, seed=room.seed).message("alpha")
        return room.encrypted(clear, grants=make_grants(room.keys[-1], clear, room.under, readers))

    def regranted(self, message: Message, *grants: KeyGrant) -> Message:
        return message._replace(encryption=encryption_of(message)._replace(grants=grants))

    def test_opens_for_its_reader_and_nobody_else(self) -> None:
        room, message = self.opening(ADDRESS)
        check_grants(message)
        assert open_grant(message, "beta", KeyRing([encryption_key("beta")])) == room.keys[-1]
        assert open_grant(message, "beta", KeyRing([encryption_key("gamma")])) is None

    def test_copied_into_another_deal_is_refused(self) -> None:
        _, message = self.opening(ADDRESS)
        _, other = self.opening(ADDRESS, seed="another")
        moved = self.regranted(other, *encryption_of(message).grants)
        with pytest.raises(GrantError, match="made for another"):
            open_grant(moved, "beta", KeyRing([encryption_key("beta")]))

    def test_moved_to_another_sealed_address_is_refused(self) -> None:
        _, message = self.opening(ADDRESS)
        (grant,) = encryption_of(message).grants
        moved = self.regranted(message, grant._replace(reader=sealed_to("gamma", sender="alpha").text))
        with pytest.raises(GrantError, match="made for another"):
            open_grant(moved, "beta", KeyRing([encryption_key("beta")]))

    def test_that_names_a_key_is_refused_and_so_is_a_named_one_that_names_none(self) -> None:
        _, message = self.opening(ADDRESS)
        (grant,) = encryption_of(message).grants
        for changed in (grant._replace(key_id=encryption_key("beta").id), grant._replace(reader="beta")):
            assert "names no key" in str(read(reader("beta"), self.regranted(message, changed)).problem)

    def test_given_twice_is_refused(self) -> None:
        with pytest.raises(GrantError, match="granted to twice"):
            self.opening(ADDRESS, ADDRESS)
        _, message = self.opening(ADDRESS)
        (grant,) = encryption_of(message).grants
        assert "granted to twice" in str(read(reader("beta"), self.regranted(message, grant, grant)).problem)

    @pytest.mark.parametrize("length", [0, 47, 48, 111])
    def test_that_is_cut_opens_for_nobody(self, length: int) -> None:
        _, message = self.opening(ADDRESS)
        (grant,) = encryption_of(message).grants
        cut = self.regranted(message, grant._replace(sealed_key=grant.sealed_key[:length]))
        assert "not readable by beta" in str(read(reader("beta"), cut).problem)

    def test_to_who_is_no_party_makes_nobody_speechless(self) -> None:
        """Its reader stays unknown to all, so that later messages cannot grant to it; they need not."""
        stranger = sealed_to("gamma", sender="alpha").text
        _, message = self.opening(ADDRESS, stranger)
        by = reader("beta")
        assert read(by, message).access == "GRANT"
        opened = by.opened(message.transaction_id)
        assert opened is not None
        assert opened.readers == ()

"""Deliveries to a chain between two parties and the ledger service: what is broadcast, when, and what the record says of it."""

from __future__ import annotations

import asyncio

import pytest

from parley.client import Participant
from parley.errors import AttachmentError, LapsedError, LedgerError, RefusedError, VerificationError
from parley.schemas import Hash
from parley.workflows.ledger import LedgerDelivery, chain_receipt, open_delivery
from parley.workflows.ledger_steps import (
    ATTACHMENT,
    BROADCAST,
    CONSENT,
    READY,
    RECEIPT,
    RECEIPT_KIND,
    Report,
    write_attachment,
    write_consent,
)
from tests.ledger_world import MINUTES, SERVICE, Fuse, LedgerWorld, eventually
from tests.memory_chain import CHAIN, ETHER, signed, wallet

pytestmark = pytest.mark.timeout(60)

ALICE, BOB = wallet("alice"), wallet("bob")
ALICES, BOBS = signed(ALICE), signed(BOB)


@pytest.fixture
def world() -> LedgerWorld:
    return LedgerWorld()


async def attach_both(ours: LedgerDelivery, theirs: LedgerDelivery) -> Report:
    await asyncio.gather(ours.attach(ALICES), theirs.attach(BOBS))
    report = await ours.ready()
    assert await theirs.ready() == report
    return report


def reasons(delivery: LedgerDelivery) -> list[str]:
    """What the service's newest word finds wrong."""
    report = delivery.report
    return [] if report is None else [found.reason for each in report.findings for found in each.problems]


async def settle(world: LedgerWorld, ours: LedgerDelivery, theirs: LedgerDelivery) -> None:
    """Attach, consent, and mine what comes of it."""
    report = await attach_both(ours, theirs)
    await asyncio.gather(ours.consent(report), theirs.consent(report))
    await eventually(lambda: len(world.chain.waiting) == 2)
    world.chain.mine()


async def test_what_all_consent_to_is_broadcast_and_its_receipt_stands_on_the_record(
    world: LedgerWorld,
) -> None:
    async with world.serving(), world.parties() as (alice, bob):
        ours, theirs = await world.deliveries(alice, bob)
        await settle(world, ours, theirs)
        assert await ours.released() == await theirs.released()
        receipt = await chain_receipt(await anext(alice.opened()), ours)
        assert receipt.is_complete
        assert [landing.party for landing in receipt.transactions] == ["alice", "bob"]
        assert {landing.block for landing in receipt.transactions} == {world.chain.height}
        assert world.chain.order() == [ALICES, BOBS]


async def test_the_receipt_refers_to_the_deal_and_opens_with_what_was_broadcast(world: LedgerWorld) -> None:
    async with world.serving(), world.parties() as (alice, bob):
        ours, theirs = await world.deliveries(alice, bob)
        await settle(world, ours, theirs)
        await chain_receipt(await anext(bob.opened()), theirs)
        opening, ending = world.receipts()
        assert [reference.transaction_id for reference in opening.references] == [ours.deal.id]
        assert (opening.content_type, ending.content_type) == (BROADCAST, RECEIPT)
        assert ALICES.hex().encode() in opening.content
        assert BOBS.hex().encode() in opening.content


class TestNothingIsBroadcast:
    async def test_before_the_last_party_consents(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours, theirs = await world.deliveries(alice, bob)
            report = await attach_both(ours, theirs)
            await ours.consent(report)
            world.backbone.pass_time(MINUTES.seconds * 1000 + 1)
            with pytest.raises(LapsedError, match=r"bob.* was due"):
                await ours.released()
            assert ours.deal.outcome == "TIMED_OUT"
            assert world.chain.broadcasts == []
            assert world.receipts() == []

    async def test_while_a_party_has_attached_nothing(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours, _ = await world.deliveries(alice, bob)
            report = await ours.attach(ALICES)
            assert report.missing == ("bob",)
            with pytest.raises(LedgerError, match="something else"):
                await ours.consent(report)
            assert world.chain.broadcasts == []

    async def test_where_a_party_finishes_without_consent(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours, theirs = await world.deliveries(alice, bob)
            report = await attach_both(ours, theirs)
            await ours.consent(report)
            before = len(ours.deal.messages)
            await theirs.deal.finish(write_consent(Hash(bytes(32))), content_type=CONSENT)
            await eventually(lambda: len(ours.deal.messages) == before + 2)
            assert ours.deal.messages[-1].content_type == READY
            assert not ours.standing.finished
            await eventually(lambda: theirs.deal.head == ours.deal.head)
            await asyncio.gather(ours.consent(report), theirs.consent(report))
            await ours.released()

    async def test_where_the_chain_changed_after_it_was_ready(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours, theirs = await world.deliveries(alice, bob)
            report = await attach_both(ours, theirs)
            world.chain.balances[BOB.address] = ETHER
            await asyncio.gather(ours.consent(report), theirs.consent(report))
            with pytest.raises(LedgerError, match="withdrawn"):
                await ours.released()
            assert reasons(ours) == ["UNFUNDED"]
            assert world.chain.broadcasts == []
            world.chain.fund(BOB)
            await settle(world, ours, theirs)
            await theirs.released()

    async def test_while_the_chain_is_away_but_afterwards(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours, theirs = await world.deliveries(alice, bob)
            report = await attach_both(ours, theirs)
            world.chain.is_away = True
            await asyncio.gather(ours.consent(report), theirs.consent(report))
            await asyncio.sleep(0.1)
            assert ours.deal.outcome is None
            world.chain.is_away = False
            await ours.released()
            await eventually(lambda: len(world.chain.waiting) == 2)


class TestAnAttachment:
    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            (b"nothing of the kind", "UNSUPPORTED"),
            (ALICES[:-1], "UNREADABLE"),
            (signed(ALICE, chainId=1), "WRONG_CHAIN"),
            (BOBS, "WRONG_SIGNER"),
            (signed(ALICE, 5), "NONCE_GAP"),
        ],
    )
    async def test_that_is_wrong_is_refused_with_its_reason(
        self, world: LedgerWorld, raw: bytes, reason: str
    ) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours, _ = await world.deliveries(alice, bob)
            with pytest.raises(AttachmentError, match=reason):
                await ours.attach(raw)
            await ours.attach(ALICES)

    async def test_that_is_mined_already_is_refused(self, world: LedgerWorld) -> None:
        world.chain.broadcast(ALICES)
        world.chain.mine()
        async with world.serving(), world.parties() as (alice, bob):
            ours, _ = await world.deliveries(alice, bob)
            with pytest.raises(AttachmentError, match="ALREADY_MINED: it stands in block 11"):
                await ours.attach(ALICES)

    async def test_in_clear_is_refused_for_everybody_could_broadcast_it(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours, _ = await world.deliveries(alice, bob)
            await ours.deal.send(write_attachment([ALICES]), content_type=ATTACHMENT)
            await eventually(lambda: ours.report is not None)
            assert reasons(ours) == ["IN_CLEAR"]

    async def test_that_the_service_cannot_read_is_refused(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours, _ = await world.deliveries(alice, bob)
            await ours.deal.send(write_attachment([ALICES]), content_type=ATTACHMENT, readers=["bob"])
            await eventually(lambda: ours.report is not None)
            assert reasons(ours) == ["UNREADABLE"]

    async def test_is_read_by_nobody_but_the_service(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours, theirs = await world.deliveries(alice, bob)
            await attach_both(ours, theirs)
            hidden = [said for said in theirs.deal.messages if said.content_type == ATTACHMENT]
            assert {said.sender: said.access for said in hidden} == {"alice": "NONE", "bob": "GRANT"}
            everything = b"".join(b"".join(pipeline.firehose) for pipeline in world.backbone.pipelines)
            assert ALICES.hex().encode() not in everything

    async def test_is_replaced_by_the_next_and_withdrawn_by_an_empty_one(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours, theirs = await world.deliveries(alice, bob)
            await attach_both(ours, theirs)
            other = signed(ALICE, value=7)
            report = await ours.attach(other)
            assert [promise.value for promise in report.findings[0].promises] == [7]
            assert (await ours.attach()).missing == ("alice",)

    async def test_may_hold_several_in_order(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours, theirs = await world.deliveries(alice, bob)
            first, second = signed(ALICE, 0), signed(ALICE, 1)
            await asyncio.gather(ours.attach(first, second), theirs.attach(BOBS))
            await asyncio.gather(ours.consent(await ours.ready()), theirs.consent(await theirs.ready()))
            await eventually(lambda: len(world.chain.waiting) == 3)
            assert world.chain.order() == [first, second, BOBS]


class TestTheServiceObjects:
    async def objection(self, world: LedgerWorld, delivery: LedgerDelivery) -> str:
        with pytest.raises(LedgerError) as told:
            await delivery.ready()
        return str(told.value)

    async def test_to_another_chain(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours, _ = await world.deliveries(alice, bob, chain="eip155:1")
            assert "'eip155:1', and ledger serves eip155:31337" in await self.objection(world, ours)

    async def test_to_words_that_it_was_not_told(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours, theirs = await world.deliveries(alice, bob)
            await ours.deal.send(write_attachment([]), content_type=ATTACHMENT, to=["bob"])
            await anext(theirs.deal)
            with pytest.raises(LedgerError, match="NOT_WHOLE"):
                await theirs.attach(BOBS)

    async def test_and_a_party_refuses_what_is_no_delivery(self, world: LedgerWorld) -> None:
        async with world.parties() as (alice, _):
            deal = await alice.open(["bob"], kind="otc", deadline=MINUTES, content="")
            with pytest.raises(LedgerError, match="no delivery by ledger"):
                LedgerDelivery(deal)
            with pytest.raises(LedgerError, match="no receipt by ledger"):
                await chain_receipt(deal)


class TestTwoDealsAtOnce:
    async def test_with_one_nonce_release_it_once(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            one = await world.deliveries(alice, bob)
            other = await world.deliveries(alice, bob)
            reports = [await attach_both(*one), await attach_both(*other)]
            await asyncio.gather(
                *(
                    each.consent(report)
                    for pair, report in zip((one, other), reports, strict=True)
                    for each in pair
                )
            )
            ends = await asyncio.gather(one[0].released(), other[0].released(), return_exceptions=True)
            assert sorted(isinstance(end, LedgerError) for end in ends) == [False, True]
            await eventually(lambda: len(world.chain.waiting) == 2)
            assert set(world.chain.broadcasts) == {ALICES, BOBS}

    async def test_run_side_by_side(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, _):

            async def deliver(number: int) -> None:
                ours = await open_delivery(alice, [], chain=CHAIN, deadline=MINUTES)
                report = await ours.attach(signed(ALICE, 0, value=number))
                assert report.is_good

            await asyncio.gather(*map(deliver, range(8)))
            assert len(alice.deals) == 8


class TestAPrivateDelivery:
    async def test_tells_nobody_else_what_is_delivered(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours, theirs = await world.deliveries(alice, bob, private=True)
            await settle(world, ours, theirs)
            receipt = await chain_receipt(await anext(bob.opened()), theirs)
            assert receipt.is_complete
            for message in [*world.said("ledger-delivery"), *world.receipts()]:
                assert message.encryption is not None
            everything = b"".join(b"".join(pipeline.firehose) for pipeline in world.backbone.pipelines)
            assert ALICE.address.encode() not in everything


class TestTheChainsWord:
    async def released(self, world: LedgerWorld, alice: Participant, bob: Participant) -> LedgerDelivery:
        ours, theirs = await world.deliveries(alice, bob)
        report = await attach_both(ours, theirs)
        await asyncio.gather(ours.consent(report), theirs.consent(report))
        await eventually(lambda: len(world.chain.waiting) == 2)
        return ours

    async def test_tells_a_transaction_without_effect(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours = await self.released(world, alice, bob)
            world.chain.reverting.add(world.chain.waiting[1].hash)
            world.chain.mine()
            receipt = await chain_receipt(await anext(alice.opened()), ours)
            assert [landing.outcome for landing in receipt.transactions] == ["MINED", "REVERTED"]
            assert not receipt.is_complete

    async def test_tells_a_transaction_that_its_own_account_replaced(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours = await self.released(world, alice, bob)
            world.chain.waiting.pop()
            world.chain.broadcast(signed(BOB, value=0))
            world.chain.mine()
            receipt = await chain_receipt(await anext(alice.opened()), ours)
            assert [landing.outcome for landing in receipt.transactions] == ["MINED", "REPLACED"]

    async def test_is_not_awaited_for_ever(self, world: LedgerWorld) -> None:
        async with world.serving(give_up_after=100_000), world.parties() as (alice, bob):
            ours = await self.released(world, alice, bob)
            world.backbone.pass_time(91_000)
            receipt = await chain_receipt(await anext(alice.opened()), ours)
            assert [landing.outcome for landing in receipt.transactions] == ["NOT_MINED", "NOT_MINED"]

    async def test_is_told_in_time_also_where_the_chain_is_away(self, world: LedgerWorld) -> None:
        async with world.serving(give_up_after=100_000), world.parties() as (alice, bob):
            ours = await self.released(world, alice, bob)
            world.chain.is_away = True
            world.backbone.pass_time(91_000)
            receipt = await chain_receipt(await anext(alice.opened()), ours)
            assert {landing.outcome for landing in receipt.transactions} == {"NOT_MINED"}
            assert "could not be looked at" in receipt.transactions[0].detail

    async def test_is_broadcast_again_where_the_chain_lost_it(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            ours = await self.released(world, alice, bob)
            world.chain.waiting.clear()
            await eventually(lambda: len(world.chain.waiting) == 2)
            world.chain.mine()
            assert (await chain_receipt(await anext(alice.opened()), ours)).is_complete

    async def test_is_the_services_to_say_and_nobody_elses(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            await self.released(world, alice, bob)
            receipt = await anext(bob.opened())
            with pytest.raises(RefusedError, match="STEP_NOT_ALLOWED"):
                await receipt.finish(b"{}", content_type=RECEIPT)

    async def test_goes_to_the_others_where_a_party_takes_the_receipt_away(self, world: LedgerWorld) -> None:
        world.backbone.limits = world.backbone.limits._replace(free_kinds=frozenset({RECEIPT_KIND}))
        async with world.serving(), world.parties() as (alice, bob):
            ours = await self.released(world, alice, bob)
            stolen = await anext(bob.opened())
            await stolen.finish("nothing happened")
            with pytest.raises(LedgerError, match="without the chain's word"):
                await chain_receipt(stolen)
            world.chain.mine()
            opened = alice.opened()
            receipts = [await anext(opened), await anext(opened)]
            assert (await chain_receipt(receipts[1], ours)).is_complete
            assert receipts[1].parties == (SERVICE, "alice")

    async def test_is_believed_only_for_what_was_consented_to(self, world: LedgerWorld) -> None:
        async with world.serving(), world.parties() as (alice, bob):
            await self.released(world, alice, bob)
            other, _ = await world.deliveries(alice, bob)
            receipt = await anext(alice.opened())
            assert receipt.kind == RECEIPT_KIND
            with pytest.raises(VerificationError, match="another broadcast"):
                await chain_receipt(receipt, other)


class TestAfterACrash:
    @pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
    @pytest.mark.parametrize("write", range(1, 6))
    async def test_at_any_write_everything_happens_once(
        self, world: LedgerWorld, write: int, *, before: bool
    ) -> None:
        """Writes: CHECK, READY, RELEASE, BROADCAST, RECEIPT."""
        fuse = Fuse(write, before)
        async with world.parties() as (alice, bob):
            async with world.serving(fuse) as life:
                ours, theirs = await world.deliveries(alice, bob)
                going = asyncio.create_task(self.go(world, ours, theirs))
                await asyncio.wait([life], timeout=10)
            assert life.done()
            assert fuse.writes == write
            async with world.serving():
                await asyncio.wait_for(going, 10)
                receipt = await chain_receipt(await anext(alice.opened()), ours)
                assert receipt.is_complete
                await eventually(lambda: len(world.receipts()) == 2)
        assert {each.hash for each, _ in world.chain.mined.values()} == {
            landing.hash for landing in receipt.transactions
        }
        assert [message.content_type for message in world.receipts()] == [BROADCAST, RECEIPT]

    async def test_another_process_of_the_service_goes_on(self) -> None:
        world = LedgerWorld(pipelines=2)
        async with world.parties() as (alice, bob), world.serving(Fuse(3)) as first:
            ours, theirs = await world.deliveries(alice, bob)
            async with world.serving():
                going = asyncio.create_task(self.go(world, ours, theirs))
                await asyncio.wait([first], timeout=10)
                assert first.done()
                await asyncio.wait_for(going, 10)
                assert (await chain_receipt(await anext(alice.opened()), ours)).is_complete
        assert [message.content_type for message in world.receipts()] == [BROADCAST, RECEIPT]

    async def go(self, world: LedgerWorld, ours: LedgerDelivery, theirs: LedgerDelivery) -> None:
        await ours.attach(ALICES)
        await theirs.attach(BOBS)
        await asyncio.gather(ours.consent(await ours.ready()), theirs.consent(await theirs.ready()))
        await ours.released()
        await eventually(lambda: len(world.chain.waiting) == 2)
        world.chain.mine()

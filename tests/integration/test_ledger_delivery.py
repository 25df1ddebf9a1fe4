"""Deliveries to a real chain through a real backbone, by the ledger service as a process that is killed and comes back."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta

import pytest
import rlp  # type: ignore[import-untyped]
from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3

from deploy.anvil import Anvil
from deploy.backbone import LEDGER, Participant
from deploy.folder import CHECKOUT
from deploy.process import ChildProcess, text_after
from parley.client import Participant as Client
from parley.envelope import DIRECTORY_ENTRY_TYPE, seal
from parley.errors import AttachmentError, LapsedError
from parley.workflows.ledger import LedgerDelivery, chain_receipt, open_delivery
from streams.catalogue import Role
from streams.crashpoint import VARIABLE
from tests.fix_backbone import RunningBackbone, entry_of
from tests.memory_chain import CHAIN, ETHER, caip, signed, wallet
from tests.synthetic_ledger import signing_key

pytestmark = pytest.mark.timeout(120)

STARTED = "ledger.started"
MINUTES = timedelta(minutes=5)
PAYEE = wallet("somebody").address
_READY_SECONDS = 60.0


class Desk:
    """The service as a process; ``start`` begins another life of it, where the last one has ended."""

    def __init__(self, running: RunningBackbone, anvil: Anvil) -> None:
        self._running = running
        self._anvil = anvil

    def keep_running(self) -> None:
        """Start it unless it runs."""
        process = self._running.processes.get(LEDGER)
        if process is None or process.exit_code is not None:
            self.start()

    def start(self, crash_at: str = "") -> ChildProcess:
        folder = self._running.backbone.folder
        log = folder.log_file(LEDGER)
        begin = log.stat().st_size if log.exists() else 0
        settings = {
            "KAFKA_BOOTSTRAP": self._running.backbone.admin.bootstrap,
            "KAFKA_USERNAME": LEDGER,
            "KAFKA_PASSWORD_FILE": str(folder.password_file(LEDGER)),
            "REGISTRAR_KEY": self._running.registrar.hex(),
            "KEY": self._running.backbone.key_reference(LEDGER),
            "ENCRYPTION_KEYS": str(folder.secrets / f"{LEDGER}.x25519"),
            "CHAIN": CHAIN,
            "RPC": self._anvil.rpc,
            "CONFIRMATIONS": "1",
            "POLL": "0.2",
        }
        process = self._running.processes[LEDGER] = ChildProcess.start(
            LEDGER,
            [sys.executable, "-m", "anchor.ledger"],
            log=log,
            pid_file=folder.pid_file(LEDGER),
            env=os.environ
            | {f"PARLEY_LEDGER_{name}": value for name, value in settings.items()}
            | {VARIABLE: crash_at},
            cwd=CHECKOUT,
        )
        process.wait_until(lambda: STARTED in text_after(log, begin), seconds=_READY_SECONDS)
        return process


@pytest.fixture(scope="module")
def desk(running_backbone: RunningBackbone, anvil: Anvil) -> Desk:
    """Not running yet; alice and bob have joined, with an account each that has ten ether."""
    accounts = {name: wallet(name) for name in ("alice", "bob")}
    running_backbone.backbone.join([joining(name, account) for name, account in accounts.items()])
    running_backbone.backbone.await_admission([*accounts, LEDGER])
    for account in accounts.values():
        anvil.fund(account.address, 10 * ETHER)
    return Desk(running_backbone, anvil)


@pytest.fixture
def _serving(desk: Desk) -> None:
    desk.keep_running()


@pytest.fixture
def web3(anvil: Anvil) -> Web3:
    return Web3(HTTPProvider(anvil.rpc))


def joining(name: str, account: LocalAccount) -> Participant:
    """A bank with an account on the chain that the registrar attests."""
    entry = entry_of(name)._replace(accounts=(caip(account),))
    envelope = seal(DIRECTORY_ENTRY_TYPE, entry, signing_key(name))
    return Participant(name, f"password-of-{name}", Role.PARTICIPANT, (name,), envelope)


async def in_the_hands_of(party: Client, ours: LedgerDelivery) -> LedgerDelivery:
    """The same delivery as the other party has it, once it has come."""
    opened = party.opened()
    while (deal := await anext(opened)).id != ours.deal.id:
        pass
    return LedgerDelivery(deal)


async def test_what_all_consent_to_is_mined_though_the_service_is_killed_before_it_broadcasts(
    running_backbone: RunningBackbone, desk: Desk, web3: Web3
) -> None:
    process = desk.start(crash_at="ledger.released")
    before = web3.eth.get_balance(PAYEE)
    async with running_backbone.connect("alice") as alice, running_backbone.connect("bob") as bob:
        ours = await open_delivery(alice, ["bob"], chain=CHAIN, deadline=MINUTES, statement="a trade")
        theirs = await in_the_hands_of(bob, ours)
        await asyncio.gather(ours.attach(signed(wallet("alice"))), theirs.attach(signed(wallet("bob"))))
        await asyncio.gather(ours.consent(await ours.ready()), theirs.consent(await theirs.ready()))
        await ours.released()
        await asyncio.to_thread(process.wait_until, lambda: process.exit_code is not None, seconds=30)
        assert web3.eth.get_balance(PAYEE) == before
        await asyncio.to_thread(desk.start)
        receipt = await chain_receipt(await anext(alice.opened()), ours)
        assert receipt.is_complete
        for landing in receipt.transactions:
            told = web3.eth.get_transaction_receipt(Web3.to_hex(landing.hash))
            assert (told["blockNumber"], bytes(told["blockHash"])) == (landing.block, landing.block_hash)
        assert web3.eth.get_balance(PAYEE) == before + 2 * ETHER


@pytest.mark.usefixtures("_serving")
async def test_a_wrong_chain_transaction_is_refused_in_words_and_a_right_one_still_taken(
    running_backbone: RunningBackbone, web3: Web3
) -> None:
    account = wallet("alice")
    nonce = web3.eth.get_transaction_count(account.address)
    good = signed(account, nonce)
    mined = signed(account, nonce, value=1)
    unsigned = good[:1] + rlp.encode(rlp.decode(good[1:])[:9])
    async with running_backbone.connect("alice") as alice:
        delivery = await open_delivery(alice, ["bob"], chain=CHAIN, deadline=MINUTES)
        for raw, complaint in (
            (unsigned, "UNSIGNED: the transaction carries no signature"),
            (signed(account, nonce, chainId=1), "WRONG_CHAIN: it is for chain 1, and this deal for 31337"),
            (signed(wallet("bob"), nonce), "WRONG_SIGNER: 0x.* which the registrar does not attest"),
            (signed(account, nonce, value=100 * ETHER), "UNFUNDED: 0x.* has .* wei left for it"),
            (signed(account, nonce + 1), "NONCE_GAP"),
        ):
            with pytest.raises(AttachmentError, match=complaint):
                await delivery.attach(raw)
        assert (await delivery.attach(good)).missing == ("bob",)
        web3.eth.wait_for_transaction_receipt(web3.eth.send_raw_transaction(mined))
        with pytest.raises(AttachmentError, match="ALREADY_MINED: it stands in block"):
            await delivery.attach(mined)
        with pytest.raises(AttachmentError, match="NONCE_SPENT"):
            await delivery.attach(good)


@pytest.mark.usefixtures("_serving")
async def test_nothing_is_broadcast_where_a_party_stays_silent(
    running_backbone: RunningBackbone, web3: Web3
) -> None:
    account = wallet("bob")
    nonce = web3.eth.get_transaction_count(account.address)
    async with running_backbone.connect("alice") as alice, running_backbone.connect("bob") as bob:
        ours = await open_delivery(alice, ["bob"], chain=CHAIN, deadline=timedelta(seconds=3))
        theirs = await in_the_hands_of(bob, ours)
        await theirs.attach(signed(account, nonce))
        with pytest.raises(LapsedError, match=r"TIMED_OUT\) while .*alice.* was due"):
            await theirs.ready()
        assert theirs.deal.outcome == "TIMED_OUT"
        assert web3.eth.get_transaction_count(account.address, "pending") == nonce

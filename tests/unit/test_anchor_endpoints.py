"""What the anchor makes of endpoints that answer nonsense."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anchor.account import AnchorAccount
from anchor.core import Fees, Submit, TreeHead
from anchor.endpoints import Endpoints
from anchor.errors import AnchorError, ChainError
from anchor.evm import EvmChain
from anchor.verify import verify_anchor
from parley.errors import ParleyError
from parley.schemas import Hash

CONTRACT = "0x00000000000000000000000000000000000000AA"
HEAD = TreeHead(5, Hash(b"\x05" * 32))


class Liar(ThreadingHTTPServer):
    """Serves chain 1 by its own account, and the test's answer to whatever else is asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), LiarHandler)
        self.answer: object = None
        self.raw: bytes | None = None
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class LiarHandler(BaseHTTPRequestHandler):
    server: Liar

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = "0x1" if request["method"] == "eth_chainId" else self.server.answer
        honest = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": answer}).encode()
        body = honest if self.server.raw is None else self.server.raw
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def liar() -> Iterator[Liar]:
    with Liar() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def chain_at(liar: Liar) -> EvmChain:
    account = AnchorAccount(b"\x01" * 32)
    return EvmChain(Endpoints([liar.url], 1, timeout=5), CONTRACT, "parley.example/log", account)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["0x", "0x5", "0x" + "05" * 96]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["number", "hash", "baseFeePerGas", "reward", "timestamp", "message"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=JSON)
def test_nonsense_ends_in_our_own_errors_alone(liar: Liar, answer: object) -> None:
    liar.answer = answer
    chain = chain_at(liar)
    with pytest.raises(ChainError):
        chain.view()
    with suppress(AnchorError):  # it may sign: gas is the node's word, bounded by the fee cap and the funds
        chain.sign(Submit(HEAD, 0, Fees(2, 1)))
    with pytest.raises(ParleyError):
        verify_anchor(
            Endpoints([liar.url], 1, timeout=5), CONTRACT, "parley.example/log", HEAD, block_number=5
        )


@pytest.mark.parametrize("status", [200, 401, 429, 500])
@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b"null", b"\xff", b'{"result": 1}'])
def test_what_is_no_answer_at_all_is_an_endpoint_s_failure(liar: Liar, body: bytes, status: int) -> None:
    liar.raw, liar.status = body, status
    with pytest.raises(ChainError):
        chain_at(liar).view()

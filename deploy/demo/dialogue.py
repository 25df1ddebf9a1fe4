"""What two banks say to each other to settle a trade, delivery versus payment; pure, sends and waits for nothing.

Four messages, each a JSON object whose ``status`` says how far the trade is and whose ``text`` says it in words:

    receiver   proposed         "I have Y to pay for X of ISIN"
    deliverer  committed        "I deliver on confirmation of the cash"
    receiver   cash_confirmed   "the cash is blocked for you"         (or declined, and the trade is over)
    deliverer  settled          "delivered", and the trade is over

Each side holds what the other says against its own order first; what does not match is refused as ``mismatched``.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

from deploy.demo.orders import Conduct, Order, Side

__all__ = ["CASH_CONFIRMED", "COMMITTED", "KIND", "PROPOSED", "Reply", "proposal", "reply", "unknown_trade"]

KIND: Final = "delivery-versus-payment"
PROPOSED: Final = "proposed"
COMMITTED: Final = "committed"
CASH_CONFIRMED: Final = "cash_confirmed"
SETTLED: Final = "settled"
DECLINED: Final = "declined"
MISMATCHED: Final = "mismatched"

_AGREED: Final = (
    "isin",
    "quantity",
    "price",
    "currency",
    "settlement_amount",
    "trade_date",
    "settlement_date",
)
_NUMBERS: Final = frozenset({"quantity", "price", "settlement_amount"})

Content = Mapping[str, object]


class Reply(NamedTuple):
    """What a bank says next."""

    content: Content
    finishes: bool = False
    late: bool = False
    """Said only after the deadline."""


def proposal(order: Order, lei: str) -> Content:
    """The receiver's opening: what it will pay, for what, and where it wants it."""
    return {
        "status": PROPOSED,
        "uti": order.uti,
        "isin": order.isin,
        "security_name": order.security_name,
        "asset_class": order.asset_class,
        "quantity": order.quantity,
        "price": order.price,
        "currency": order.currency,
        "settlement_amount": order.settlement_amount,
        "trade_date": order.trade_date,
        "settlement_date": order.settlement_date,
        "place_of_settlement_bic": order.place_of_settlement_bic,
        "deliverer_lei": order.counterparty_lei,
        "receiver_lei": lei,
        "receiver_securities_account": order.securities_account,
        "receiver_cash_account": order.cash_account,
        "text": f"We have {_cash(order)} to pay for {_securities(order)}, for settlement on {order.settlement_date}.",
    }


def reply(order: Order, said: Content) -> Reply | None:
    """What a bank with this order answers to what its counterparty said; ``None`` if it has nothing to say."""
    status = said.get("status")
    if order.side is Side.DELIVER and status == PROPOSED:
        return _commitment(order, said)
    if order.side is Side.RECEIVE and status == COMMITTED:
        return _payment(order, said)
    if order.side is Side.DELIVER and status == CASH_CONFIRMED:
        return _delivery(order, said)
    return None


def unknown_trade(said: Content) -> Reply:
    """The answer to a proposal that the bank has no order for."""
    text = f"We have no trade {str(said.get('uti'))[:60]} with you in our books; nothing will be delivered."
    return Reply({"status": MISMATCHED, "text": text}, finishes=True)


def _commitment(order: Order, said: Content) -> Reply | None:
    if order.conduct is Conduct.SILENT:
        return None
    if differs := _difference(order, said):
        text = f"We have this trade otherwise in our books ({differs}); nothing will be delivered."
        return Reply({"status": MISMATCHED, "uti": order.uti, "text": text}, finishes=True)
    return Reply(
        {
            "status": COMMITTED,
            "uti": order.uti,
            "settlement_amount": order.settlement_amount,
            "currency": order.currency,
            "deliverer_securities_account": order.securities_account,
            "deliverer_cash_account": order.cash_account,
            "text": f"We commit to deliver {_securities(order)} on confirmation of {_cash(order)}"
            f" for our account {order.cash_account}.",
        }
    )


def _payment(order: Order, said: Content) -> Reply | None:
    if order.conduct is Conduct.SILENT:
        return None
    if order.conduct is Conduct.DECLINES:
        text = f"We decline: our client has withdrawn the purchase. We do not pay {_cash(order)}."
        return Reply({"status": DECLINED, "uti": order.uti, "text": text}, finishes=True)
    account = str(said.get("deliverer_cash_account", ""))
    if not account or not _same("settlement_amount", said.get("settlement_amount"), order.settlement_amount):
        text = f"You commit to something else than {_cash(order)}; we do not pay."
        return Reply({"status": MISMATCHED, "uti": order.uti, "text": text}, finishes=True)
    return Reply(
        {
            "status": CASH_CONFIRMED,
            "uti": order.uti,
            "settlement_amount": order.settlement_amount,
            "currency": order.currency,
            "text": f"{_cash(order)} is blocked for your account {account}; it is yours on delivery.",
        }
    )


def _delivery(order: Order, said: Content) -> Reply:
    if not _same("settlement_amount", said.get("settlement_amount"), order.settlement_amount):
        text = f"You confirm another amount than {_cash(order)}; nothing will be delivered."
        return Reply({"status": MISMATCHED, "uti": order.uti, "text": text}, finishes=True)
    text = f"Delivered: {_securities(order)}. {_cash(order)} received. The trade is settled."
    settled = {"status": SETTLED, "uti": order.uti, "text": text}
    return Reply(settled, finishes=True, late=order.conduct is Conduct.LATE)


def _difference(order: Order, said: Content) -> str | None:
    """The first thing in which a proposal differs from the order, in words."""
    for name in _AGREED:
        own = getattr(order, name)
        if not _same(name, said.get(name), own):
            return f"{name.replace('_', ' ')} {own}, not {str(said.get(name))[:40]}"
    return None


def _same(name: str, told: object, own: str) -> bool:
    if not isinstance(told, str):
        return False
    if name not in _NUMBERS:
        return told == own
    try:
        return Decimal(told) == Decimal(own)
    except InvalidOperation:
        return False


def _cash(order: Order) -> str:
    return f"{order.currency} {Decimal(order.settlement_amount):,}"


def _securities(order: Order) -> str:
    quantity = f"{Decimal(order.quantity):,}"
    if order.asset_class == "BOND":
        quantity = f"{order.currency} {quantity} nominal of"
    return f"{quantity} {order.security_name} ({order.isin})"

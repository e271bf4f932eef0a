"""An account whose balance is what its events add up to: replay, and optimistic concurrency.

Two tellers have read the same events, and both decide to pay out. Each appends on condition that
nobody has appended since (`expect=`). The one who comes second reads again, and sees that the money
is gone.

Prints:
    balance 100
    ann: paid out 80, balance 20
    bob: somebody was faster, read again
    bob: refused, balance 20
    1 Deposited 100
    2 Withdrawn 80
    the chain of 2 records is sound: True
"""

import asyncio

from msgspec import Struct

from hms_bus import Bus
from hms_bus.abc import Expect
from hms_bus.errors import ConflictError

TOPIC = "accounts.7"


class Deposited(Struct):
    """Money came in."""

    amount: int


class Withdrawn(Struct):
    """Money went out."""

    amount: int


async def balance(bus: Bus) -> tuple[int, Expect]:
    """Return the sum of the events, and the position of the last one."""
    total, last = 0, 0
    async for message in bus.replay(TOPIC):
        last = message.position or last
        match message.type:
            case "Deposited":
                total += message.decode(Deposited).amount
            case "Withdrawn":
                total -= message.decode(Withdrawn).amount
            case _:
                pass  # written by a newer release, and of no concern here
    return total, last or "none"


async def withdraw(bus: Bus, teller: str, amount: int, seen: tuple[int, Expect]) -> None:
    """Pay out `amount` if there is enough; `seen` is what the teller knows of the account."""
    total, last = seen
    while total >= amount:
        try:
            await bus.publish(TOPIC, Withdrawn(amount), expect=last)
        except ConflictError:
            print(f"{teller}: somebody was faster, read again")
            total, last = await balance(bus)
        else:
            print(f"{teller}: paid out {amount}, balance {total - amount}")
            return
    print(f"{teller}: refused, balance {total}")


async def main() -> None:
    """Deposit 100, let two tellers pay out 80 each, and look at what was kept."""
    async with Bus("direct://", log="sqlite:accounts.db", source="/agents/bank") as bus:
        await bus.publish(TOPIC, Deposited(100), expect="none")
        seen_by_ann = seen_by_bob = await balance(bus)
        print("balance", seen_by_ann[0])
        await withdraw(bus, "ann", 80, seen_by_ann)
        await withdraw(bus, "bob", 80, seen_by_bob)
        async for message in bus.replay(TOPIC):
            print(message.position, message.type, message.decode(dict[str, int])["amount"])
        found = await bus.log.verify()
        print(f"the chain of {found.records} records is sound: {found.is_sound}")


if __name__ == "__main__":
    asyncio.run(main())

"""All statements about prices. Rows are only ever added; `terms` comes in and goes out as text."""

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ownstudio.store.schema import entries, prices


class PriceRow(Struct, frozen=True):
    """One price as stored. Times are Unix seconds."""

    id: int
    model: str
    region: str
    effective_from: int
    currency: str
    terms: str
    origin: str
    created_at: int


async def insert_prices(connection: AsyncConnection, rows: Sequence[PriceRow]) -> None:
    """Add rows under ids that follow the highest one in this transaction.

    Two transactions may choose the same ids; the first commits and the second has a ConflictError. So no id is
    committed after a higher one, and a reader that asks for what is new misses nothing.
    """
    await connection.execute(
        insert(prices), [{name: getattr(row, name) for name in _NAMES} for row in rows]
    )


async def prices_since(connection: AsyncConnection, price_id: int) -> list[PriceRow]:
    """Prices that were added after `price_id`, in the order of their ids."""
    result = await connection.execute(
        select(*_COLUMNS).where(prices.c.id > price_id).order_by(prices.c.id)
    )
    return [PriceRow(*row) for row in result]


async def any_entry(connection: AsyncConnection) -> bool:
    """Whether anything was ever booked, so that the currency of the database can no longer change."""
    return await connection.scalar(select(entries.c.seq).limit(1)) is not None


_NAMES = PriceRow.__struct_fields__
_COLUMNS = [prices.c[name] for name in _NAMES]

"""Work without an end of its own, done for as long as a block lasts."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None, None]:
    """Does `work` while the block runs, and has ended it when the block is left."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        await ended(task)


async def ended(task: asyncio.Future[Any]) -> None:
    """Cancel and wait until it is over, however it ends."""
    task.cancel()
    await asyncio.wait([task])

"""One look at the database for all who need it at once, and nobody waits long for a database that says nothing.

A look that outlasts everybody's patience goes on by itself until the database answers or fails, and what it brings
counts. Until then whoever needs to look is told at once that the database cannot be used.
"""

import asyncio
from collections.abc import Awaitable, Callable

from ownstudio.core.errors import ErrorKind, StudioError
from ownstudio.store.directory import StoreError

LOOK_S_MAX = 5.0


class SharedLook:
    """`take_in` takes in what the database has, whole or, with a StoreError, not at all. `monotonic` is in seconds.

    `unavailable` and `retry_after` are what clients are told where the database cannot be used.
    """

    def __init__(
        self,
        take_in: Callable[[], Awaitable[None]],
        monotonic: Callable[[], float],
        unavailable: str,
        retry_after: float | None = None,
    ) -> None:
        self._take_in = take_in
        self._unavailable = unavailable
        self._retry_after = retry_after
        self._monotonic = monotonic
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[StoreError | None] | None = None
        # Until when others wait for the look under way, on the clock of the event loop.
        self._patience_ends = 0.0

    def is_fresh(self, age_max_s: float) -> bool:
        """Whether the last look was less than so many seconds ago."""
        return self._monotonic() - self._looked_at < age_max_s

    async def look(self, age_max_s: float) -> None:
        """Look, unless the last look was less than `age_max_s` ago. Raises StudioError STORE_UNAVAILABLE."""
        asked_at = self._monotonic()
        # A look that somebody else began before may miss what this one is for; one that begins after cannot.
        while asked_at - self._looked_at >= age_max_s:
            loop = asyncio.get_running_loop()
            if self._looking is None:
                self._patience_ends = loop.time() + LOOK_S_MAX
                self._looking = loop.create_task(self._look())
            looking = self._looking
            await asyncio.wait({looking}, timeout=self._patience_ends - loop.time())
            if not looking.done():
                raise self._refusal(f"the database has said nothing for {LOOK_S_MAX:g} s")
            failure = looking.result()
            if failure is not None:
                raise self._refusal(str(failure)) from failure

    def _refusal(self, detail: str) -> StudioError:
        return StudioError(
            ErrorKind.STORE_UNAVAILABLE,
            self._unavailable,
            detail=detail,
            retry_after=self._retry_after,
        )

    async def _look(self) -> StoreError | None:
        """What went wrong is told, not raised: perhaps nobody waits for it any more."""
        began = self._monotonic()
        try:
            await self._take_in()
        except StoreError as error:
            return error
        finally:
            self._looking = None
        self._looked_at = began
        return None

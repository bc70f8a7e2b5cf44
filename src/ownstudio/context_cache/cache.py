"""The context cache as a request meets it: it finds or it does not, but it never fails anybody.

An index that cannot be asked knows nothing and keeps nothing. It is left alone for a moment then, since waiting for
it would slow every request, and the log hears of it once a minute.
"""

import logging
import time
from collections.abc import Callable

from ownstudio.context_cache.index import Found as Found  # what a look gives
from ownstudio.context_cache.index import IndexUnavailable, Owner, PrefixIndex
from ownstudio.context_cache.prefix import Prefix

REST_S = 1.0
WARNING_S = 60.0

_log = logging.getLogger(__name__)


class ContextCache:
    def __init__(
        self, index: PrefixIndex, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._index = index
        self._now = monotonic
        self._rests_until = float("-inf")
        self._silent_until = float("-inf")

    async def look(self, account: str, model: str, prefix: Prefix) -> Found:
        """What is known of this prompt. A cache block that it hits lives anew."""
        if self._now() >= self._rests_until:
            try:
                return await self._index.look(Owner(account, model), prefix)
            except IndexUnavailable as fault:
                self._rest(fault)
        return Found(explicit=prefix.explicit, asked=False)

    async def remember(self, account: str, model: str, prefix: Prefix) -> None:
        """The prompt has been answered: from now on it can be found."""
        if self._now() < self._rests_until:
            return
        try:
            await self._index.remember(Owner(account, model), prefix)
        except IndexUnavailable as fault:
            self._rest(fault)

    def _rest(self, fault: IndexUnavailable) -> None:
        now = self._now()
        self._rests_until = now + REST_S
        if now >= self._silent_until:
            self._silent_until = now + WARNING_S
            _log.warning("the prefix index cannot be asked, so nothing counts as cached: %s", fault)

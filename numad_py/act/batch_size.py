# SPDX-License-Identifier: Apache-2.0

"""How many pages fit one moving call of a given time.

Problem: a call holds the pages it moves, and how long it takes cannot be known
beforehand: it differs by page size, machine and load by a factor of 500.
Primitive: the CPU time of every call. What a call takes beyond it is waiting,
mostly for every CPU to drain its LRU lists, which holds nobody's pages and
which a smaller batch does not shorten.
Application: a batch begins at 64 base pages, or one huge page, and is never
smaller; it grows by half at most, towards ``TARGET_S``, and shrinks at once to
what the slowest of late calls leaves: where a CPU whose TLB is to be flushed is
not running, as in a guest of a busy host, a page takes a thousand times what it
took in the call before, and a batch sized by that one would hold its pages for seconds.
"""

import threading

FIRST_PAGES = 64
TARGET_S = 0.008  # aimed at, so that half of all calls end within 20 ms and 99 % within 50 ms
GROWTH = 1.5
FORGETS = 0.95  # of what a page took in a slow call, kept from call to call
FIRST_PAGE_S = 20e-6  # pessimistic: a base page takes 1.24 us on current machines


class BatchSize:
    """Adapts the batch of each page size to what calls cost; safe to share among threads."""

    def __init__(self, base_page_bytes: int) -> None:
        self._base_page_bytes = base_page_bytes
        self._pages: dict[int, float] = {}
        self._page_s: dict[int, float] = {}
        self._lock = threading.Lock()

    def pages(self, page_bytes: int) -> int:
        """Give the number of pages for the next call."""
        with self._lock:
            return int(self._pages.get(page_bytes, self._least(page_bytes)))

    def page_s(self, page_bytes: int) -> float:
        """Give the CPU time that a page took of late at most, its share of a call's fixed cost included."""
        guess = FIRST_PAGE_S * page_bytes / self._base_page_bytes
        with self._lock:
            return self._page_s.get(page_bytes, guess)

    def learn(self, page_bytes: int, pages: int, cpu_s: float) -> None:
        """See what CPU time a call with so many pages took."""
        most = self.pages(page_bytes)
        if 2 * pages < most:
            return  # the short rest of a range teaches nothing
        with self._lock:
            page_s = max(cpu_s / pages, FORGETS * self._page_s.get(page_bytes, 0.0), 1e-9)
            self._page_s[page_bytes] = page_s
            fitting = min(TARGET_S / page_s, most * GROWTH + 1)
            self._pages[page_bytes] = max(fitting, self._least(page_bytes))

    def _least(self, page_bytes: int) -> int:
        return FIRST_PAGES if page_bytes == self._base_page_bytes else 1

"""No archive that is larger than its slide, where that was asked for (``--no-growth``).

Three times the question is put: to the estimate before the first task, to what is written after each task, and to the
finished archive before it takes its name. The estimate is uncertain; it decides only where the size is above that of
the slide by more than its margin, so that no slide is refused that would have shrunk. What it leaves open costs time at
most: as soon as the chunks alone are larger the work stops.
"""

from __future__ import annotations

from pathlib import Path

from dlpr_wsi.errors import GrowthError
from dlpr_wsi.pipeline.estimate import Estimate
from dlpr_wsi.pipeline.journal import Journal, TaskRecord
from dlpr_wsi.pipeline.plan import Plan
from dlpr_wsi.sources import SlideFacts

__all__ = ["Limit", "advice", "already_larger"]


class Limit:
    """The slide's size as a limit on a conversion.

    Parameters
    ----------
    facts : SlideFacts
        The slide.
    plan : Plan
        Levels of the archive.
    tau : int
        The bound of levels that are read from the slide.
    journal : Journal
        Of the conversion; what it has done so far counts. What `add` and `final` refuse is to be removed by the caller,
        once no task writes any more.
    """

    def __init__(self, facts: SlideFacts, plan: Plan, tau: int, journal: Journal) -> None:
        self._facts, self._plan, self._tau, self._journal = facts, plan, tau, journal
        self._levels = [0] * len(plan.levels)
        for record in journal.records.values():
            self._count(record)

    def foresee(self, guess: Estimate) -> None:
        """Raise GrowthError where an estimate is above the slide's size by more than its margin.

        Work that an earlier run left stays for a run without this limit.
        """
        if guess.least <= self._facts.file_bytes:
            return
        if not self._journal.resumed:
            self._journal.remove()
        size = f"about {guess.archive_bytes:,} bytes, at least {guess.least:,}"
        raise GrowthError(self._text(size, [level.bytes for level in guess.levels], "nothing was converted"))

    def add(self, record: TaskRecord) -> None:
        """Count a finished task; raise GrowthError once the chunks are larger than the slide."""
        self._count(record)
        if sum(self._levels) > self._facts.file_bytes:
            self._stop(f"more than {sum(self._levels):,} bytes")

    def final(self, size: int) -> None:
        """Raise GrowthError where the finished archive is larger than the slide."""
        if size > self._facts.file_bytes:
            self._stop(f"{size:,} bytes")

    def _count(self, record: TaskRecord) -> None:
        self._levels[record.level] += sum(record.bytes_by_mode.values())

    def _stop(self, size: str) -> None:
        raise GrowthError(self._text(size, self._levels, "what was written has been removed"))

    def _text(self, size: str, levels: list[int], done: str) -> str:
        made = sum(levels[self._plan.first_made :]) / max(1, sum(levels))
        return (
            f"{self._facts.name}: the archive would take {size}, the slide takes {self._facts.file_bytes:,} "
            f"(--no-growth): {done}; {advice(self._plan, self._tau, made)}"
        )


def already_larger(out: Path, size: int, facts: SlideFacts) -> str:
    """Say that the very archive is there, complete, from an earlier run, and larger than the slide."""
    return (
        f"{out}: this archive of {facts.name} was there already, complete, with {size:,} bytes; the slide has "
        f"{facts.file_bytes:,} (--no-growth): it was left as it is, remove it to have nothing larger than the slide"
    )


def advice(plan: Plan, tau: int, made: float) -> str:
    """Say what makes an archive smaller.

    Parameters
    ----------
    plan : Plan
        Its levels.
    tau : int
        The bound of levels that are read from the slide.
    made : float
        Share of the archive that levels made here take.
    """
    ways = []
    if plan.made_levels and made > 0.1:
        ways.append(
            f"--pyramid never leaves out the levels made here, {100 * made:.0f} % of it, and a --made-tau above "
            f"{plan.levels[-1].tau} makes them smaller"
        )
    ways.append("--tau 1 or more makes it smaller" if tau == 0 else f"a tau above {tau} makes it smaller")
    return f"{'; '.join(ways)}; or leave the slide as it is"

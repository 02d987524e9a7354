"""The time that a session has, and whether one more member fits into it."""

import math
import time
from collections.abc import Callable


class OutOfTimeError(Exception):
    """A member that was begun would not end before the deadline."""


class TimeBudget:
    """Decides from the members and epochs that are done whether there is time for more."""

    def __init__(self, deadline: float = math.inf, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins.

        Args:
            deadline: seconds on the clock.
            clock: the same in every process of a machine.
        """
        self._deadline, self._clock = deadline, clock
        self._slowest = 0.0  # seconds of a member
        self._first_epoch_ended = 0.0

    def now(self) -> float:
        """Returns the seconds on the clock."""
        return self._clock()

    def has_room(self) -> bool:
        """Whether a member that takes as long as the slowest one yet would end before the deadline."""
        return self._clock() + self._slowest <= self._deadline

    def member_ended(self, seconds: float) -> None:
        """Counts a member that took so long."""
        self._slowest = max(self._slowest, seconds)

    def epoch_ended(self, epoch: int, epochs: int) -> None:
        """Counts an epoch of the present member; the first one, which builds the network too, does not count.

        Args:
            epoch: from 0.
            epochs: of the member.

        Raises:
            OutOfTimeError: the epochs that are left would not end before the deadline.
        """
        now = self._clock()
        if epoch == 0:
            self._first_epoch_ended = now
            return
        seconds = (now - self._first_epoch_ended) / epoch
        late = now + seconds * (epochs - epoch - 1) - self._deadline
        if late > 0:
            raise OutOfTimeError(
                f"its {epochs} epochs of {seconds:,.1f} s each would end {late / 60:,.1f} minutes late"
            )

"""The progress of an evaluation."""

from __future__ import annotations

from types import TracebackType

from art_ext.progress import progress_bar


class ProgressBar:
    """One bar over all attacks, with the name of the running one and the accuracy it has left so far.

    In a log file: a line at the end of each attack, and one every 30 seconds within a longer one.

    Args:
        attacks: number of attacks.
        attacked: examples that each of them attacks.
        total: examples in all, misclassified ones included: what the accuracy refers to.
        show: False for silence.
    """

    def __init__(self, attacks: int, attacked: int, total: int, *, show: bool) -> None:
        self._bar = progress_bar(attacks * attacked, "img", show=show)
        self._attacked, self._total = attacked, total
        self._finished, self._survivors = 0, attacked

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def begin(self, label: str, attacked: int) -> None:
        """The next attack starts on so many examples; what one before left out or broke off is counted as done."""
        self._bar.update(self._finished - self._bar.n)
        if self._finished:
            self._bar.refresh()
        self._finished += self._attacked
        self._survivors = attacked
        self._bar.set_description(label)

    def advance(self, done: int, broken: int) -> None:
        """``done`` more examples were attacked and ``broken`` of them are misclassified now."""
        self._survivors -= broken
        self._bar.set_postfix_str(f"accuracy {self._survivors / self._total:.1%}", refresh=False)
        self._bar.update(done)

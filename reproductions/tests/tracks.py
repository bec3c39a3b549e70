"""What stands where stages show their progress."""


class Track:
    """No progress bar; `stop` interrupts after so many steps."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop

    def __call__(self, steps, total=None, done=0):
        for count, step in enumerate(steps, done + 1):
            yield step
            if count == self.stop:
                raise KeyboardInterrupt

    def note(self, text: str) -> None: ...

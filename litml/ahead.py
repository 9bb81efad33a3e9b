# Exported from nbs/11d_ahead.ipynb. Edit either side, then run `litml sync`.
"""Run notebooks before their turn, several at a time, and hand over their results in
order.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from litml.kernel import Loop
from litml.run import Runner

__all__ = ["Turn", "Ahead"]


# ## One notebook
# %% Turn
@dataclass(eq=False, slots=True)
class Turn:
    """A notebook that is to run up to the step `last`."""

    runner: Runner
    last: int
    begun: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        """Has everything been run, or failed?"""
        return self.task is not None and (self.task.done() or not self.running)

    @property
    def running(self) -> bool:
        """Is there a step left to run?"""
        return len(self.runner.runs) <= self.last and not self.runner.failed

    async def run(self) -> None:
        """Run the steps, and tell after each."""
        while self.running:
            await self.runner.run_to(len(self.runner.runs))
            self.news.set()

    def knows(self, index: int) -> bool:
        """Is there a result for that step, which will stay?"""
        # A flaky notebook may begin again, and then its results are not the last ones.
        settled = not any(step.flaky > 1 for step in self.runner.steps)
        return settled and self.begun and len(self.runner.runs) > index

    def has(self, index: int) -> bool:
        """Is there a result for that step, or will there be none?"""
        reached = len(self.runner.runs) - 1 if self.runner.failed else index
        return self.over or self.knows(min(index, reached))


# ## All of them
# %% Ahead
class Ahead:
    """Runs planned notebooks, `jobs` at a time; the methods are for another thread."""

    def __init__(self, loop: Loop, jobs: int) -> None:
        self.loop = loop
        self.jobs = jobs
        self.turns: dict[int, Turn] = {}
        self.line: list[Runner] = []  # those that will need a kernel, in their order
        self.places: asyncio.Semaphore | None = None

    def plan(self, runner: Runner, last: int) -> None:
        """Have a notebook run up to the step `last`, as soon as there is a place."""
        self.loop.run(self.begin(Turn(runner, last)))

    def expect(self, runners: Iterable[Runner]) -> None:
        """Say which notebooks will be asked for, so that kernels may start early."""
        self.loop.run(self.line_up(runners))

    def reach(self, runner: Runner, index: int) -> None:
        """Wait until the step `index` has been run, or one before it has failed.

        Raises `LitmlError` if the notebook cannot be run.
        """
        turn = self.turns.get(id(runner))
        if turn is None or not turn.knows(index):  # else the loop need not be asked
            self.loop.run(self.wait(runner, index))

    def release(self, runner: Runner) -> None:
        """End the notebook's kernel, and let the next one have its place."""
        self.loop.run(self.drop(runner))

    def stop(self) -> None:
        """Let no more notebooks begin, and end those that run."""
        self.loop.run(self.drop_all())

    async def line_up(self, runners: Iterable[Runner]) -> None:
        """Expect these, and no others."""
        self.line = [*runners]
        self.look_ahead()

    async def open(self, runner: Runner) -> None:
        """Get a notebook its kernel, and have the one of the next prepared."""
        if waited := runner in self.line:
            self.line.remove(runner)
        await runner.open()
        if waited:
            self.look_ahead()

    def look_ahead(self) -> None:
        """Have the first in the line prepared."""
        for runner in self.line[:1]:
            runner.prepare()

    async def begin(self, turn: Turn) -> None:
        """Queue a turn."""
        self.places = self.places or asyncio.Semaphore(self.jobs)
        self.turns[id(turn.runner)] = turn
        turn.task = asyncio.create_task(self.work(turn, self.places))

    async def work(self, turn: Turn, places: asyncio.Semaphore) -> None:
        """Run a notebook when there is a place, and keep that while it has a kernel."""
        async with places:
            turn.begun = True
            try:
                await self.open(turn.runner)
                await turn.run()
            finally:
                turn.news.set()
            if turn.runner.kernel is not None:
                await turn.let_go.wait()

    async def wait(self, runner: Runner, index: int) -> None:
        """Wait for a step, or run up to it if it was not planned or not begun."""
        turn = self.turns.get(id(runner))
        if turn is None or not turn.begun:
            if turn and turn.task:
                turn.task.cancel()
            if len(runner.runs) <= max(index, 0) and not runner.failed:
                await self.open(runner)
            await runner.run_to(index)
            return
        while not turn.has(index):
            turn.news.clear()
            await turn.news.wait()
        if turn.task and turn.task.done() and not turn.task.cancelled():
            turn.task.result()

    async def drop(self, runner: Runner) -> None:
        """End a notebook's kernel; if it had a turn, that is over."""
        if turn := self.turns.pop(id(runner), None):
            turn.let_go.set()
            if turn.task and not turn.over:
                turn.task.cancel()
            if turn.task:
                await asyncio.wait([turn.task])
        await runner.close()

    async def drop_all(self) -> None:
        """Forget all turns, first those that would begin when others end."""
        turns, line, self.line = list(self.turns.values()), self.line, []
        for turn in turns:
            if turn.task and not turn.begun:
                turn.task.cancel()
        runners = {turn.runner for turn in turns}.union(line)
        await asyncio.gather(*(self.drop(runner) for runner in runners))

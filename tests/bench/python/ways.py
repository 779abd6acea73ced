"""The handler of letter.py as Python calls plugins in one process: by a hook of pluggy, and by a plain asyncio router.

A line of input has a way, how many calls are on their way at a time, and how many there are; the line that comes of it has the
nanoseconds of one. The first line names the ways that there are.
"""

import asyncio
import sys
import time
from collections import defaultdict

EVENT = "bench:python"


def letter_of(number):
    return {
        "number": number,
        "from": "somebody",
        "to": "somebody else",
        "subject": "what a letter of some length is about",
        "urgent": False,
        "tags": ["a", "b"],
    }


def answered(number, replies):
    if [reply["number"] for reply in replies] != [number + 1]:
        raise SystemExit(f"letter {number} came to {replies}")


class Router:
    """Runs all handlers of an event at once, in the order of their priority, and gathers what they reply."""

    def __init__(self):
        self.handlers = defaultdict(list)

    def subscribe(self, event, handler, priority=50):
        self.handlers[event].append((priority, handler))
        self.handlers[event].sort(key=lambda entry: entry[0])

    async def emit(self, event, data):
        calls = [handler(data) for _, handler in self.handlers[event]]
        replies = await asyncio.gather(*calls, return_exceptions=True)
        return [reply for reply in replies if reply is not None]


async def by_router(at_once, calls):
    async def letter(data):
        return {**data, "number": data["number"] + 1}

    async def some(numbers):
        for number in numbers:
            answered(number, await router.emit(EVENT, letter_of(number)))

    router = Router()
    router.subscribe(EVENT, letter)
    await asyncio.gather(*(some(range(first, calls, at_once)) for first in range(at_once)))


def by_pluggy():
    spec, impl = pluggy.HookspecMarker("bench"), pluggy.HookimplMarker("bench")

    class Specs:
        @spec
        def letter(self, data):
            """A letter, answered."""

    class Plugin:
        @impl
        def letter(self, data):
            return {**data, "number": data["number"] + 1}

    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(Specs)
    manager.register(Plugin())

    def run(calls):
        for number in range(calls):
            answered(number, manager.hook.letter(data=letter_of(number)))

    return run


ways = {"router": lambda at_once, calls: asyncio.run(by_router(at_once, calls))}
try:
    import pluggy
except ImportError:
    pass
else:
    hooks = by_pluggy()
    ways["pluggy"] = lambda _at_once, calls: hooks(calls)
print(*ways, flush=True)
for line in sys.stdin:
    way, at_once, calls = line.split()
    began = time.perf_counter_ns()
    ways[way](int(at_once), int(calls))
    print((time.perf_counter_ns() - began) / int(calls), flush=True)

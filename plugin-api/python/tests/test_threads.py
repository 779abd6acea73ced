"""Ordinary functions, which block, and the threads that they run on."""

import unittest
from typing import Any

from .host import FakeHost, WorkerTest

#: A handler of the depth 3 asks one of the depth 2, and so on.
ASKS = """
    import asyncio, threading
    from ksi.events import event_handler, emit_event
    from ksi.router import get_router

    opened = threading.Event()

    @event_handler("a:asks")
    def asks(depth):
        if depth == 0:
            return [0]
        return [depth, *asyncio.run(emit_event("a:asks", depth - 1))]

    @event_handler("a:mixed")
    def mixed(depth):
        ask = emit_event("a:between", depth - 1)
        on_its_loop = asyncio.run_coroutine_threadsafe(ask, get_router().loop)
        return [depth, *on_its_loop.result()]

    @event_handler("a:between")
    async def between(depth):
        return [depth, *await emit_event("a:asks", depth - 1)]

    @event_handler("a:waits")
    def waits(data):
        opened.wait()

    @event_handler("a:opens")
    async def opens(data):
        opened.set()
"""


class Router:
    """Has each event that a worker emits called, and tells what became of it."""

    def __init__(self, host: FakeHost) -> None:
        self.host = host
        self._calls: dict[int, tuple[int, int]] = {}
        self._asked: dict[int, Any] = {}

    def begin(self, event: str, data: Any, root: int = 0, depth: int = 0) -> int:
        root = root or len(self._calls) + 1
        handler = event.removeprefix("a:")
        number = self.host.call(handler, data, event, root=root, event=1000, depth=depth)
        self._calls[number] = root, depth
        return number

    def all_end(self, numbers: list[int]) -> dict[int, Any]:
        """What became of calls, with all that they have emitted."""
        ends: dict[int, Any] = {}
        while len(ends) < len(numbers):
            frame = self.host.next()
            if frame.kind == "EMIT":
                emit = frame.emit()
                root, depth = self._calls[emit.call]
                self._asked[self.begin(emit.name, emit.data, root, depth + 1)] = frame
                continue
            end = frame.json() if frame.kind == "REPLY" else frame.failure()
            if frame.id in self._asked:
                self.host.report(self._asked.pop(frame.id), [end])
            else:
                ends[frame.id] = end
        return ends


class Threads(WorkerTest):
    def router(self, threads: int = 64) -> Router:
        return Router(self.live(ASKS, limits={"blocking_threads": threads}))

    def test_any_number_of_ordinary_functions_may_ask_one_another_at_once(self) -> None:
        for threads, depth in ((64, 1), (64, 5), (8, 1), (8, 3), (2, 1)):
            for count in (1, 300):
                with self.subTest(threads=threads, depth=depth, count=count):
                    router = self.router(threads)
                    with router.host.together():
                        numbers = [router.begin("a:asks", depth) for _ in range(count)]
                    expected: Any = [0]
                    for level in range(1, depth + 1):
                        expected = [level, expected]
                    ends = router.all_end(numbers)
                    self.assertEqual(ends, {number: expected for number in numbers})

    def test_so_may_those_that_ask_by_way_of_coroutines(self) -> None:
        router = self.router(8)
        with router.host.together():
            numbers = [router.begin("a:mixed", 2) for _ in range(100)]
        ends = router.all_end(numbers)
        self.assertEqual(ends, {number: [2, [1, [0]]] for number in numbers})

    def test_where_all_threads_wait_for_one_another_the_last_call_says_so(self) -> None:
        router = self.router(2)
        number = router.begin("a:asks", 3)
        asked = [router.host.until("EMIT")]
        router.host.call("asks", 2, "a:asks", root=1, depth=1)
        asked.append(router.host.until("EMIT"))
        third = router.host.call("asks", 1, "a:asks", root=1, depth=2)
        code, message = router.host.until("FAILED", third).failure()
        self.assertEqual(code, "no_thread")
        self.assertIn("2 calls of ordinary functions of sample run, and wait for", message)
        self.assertIn("limits.blocking_threads", message)
        for frame in reversed(asked):
            router.host.report(frame, [])
        self.assertEqual(router.host.until("REPLY", number).json(), [3])

    def test_a_call_for_which_no_thread_was_there_in_time_is_told(self) -> None:
        router = self.router(2)
        host = router.host
        blocks, waits = host.call("waits", root=1), host.call("waits", root=2)
        host.put("CANCEL", id=waits)
        self.assertEqual(host.until("FAILED", waits).failure()[0], "cancelled")
        words = "was given up before there was a thread for it: 1 of at most 2"
        told = [it[3] for it in host.logs() if it[1] == 2]
        self.assertEqual([words in it for it in told], [True])
        self.assertIn("limits.blocking_threads", told[0])
        host.asked("opens")
        host.until("NO_REPLY", blocks)
        self.assertEqual(host.asked("asks", 0), [0])


if __name__ == "__main__":
    unittest.main()

"""Calls of handlers, as the host sees them."""

import importlib.util
import json
import os
import struct
import sys
import unittest

from .host import FakeHost, WorkerTest

MODULE = """
    import asyncio, contextvars, logging, threading, time
    from ksi.events import event_handler, emit_event

    log = logging.getLogger("sample")
    held = []

    @event_handler("a:echo")
    async def echo(data):
        return data

    @event_handler("a:context")
    async def context(data, context):
        return {k: v for k, v in context.items() if k != "router"}

    @event_handler("a:keyword")
    async def keyword(data, *, context):
        return context["_event_id"]

    @event_handler("a:nothing")
    async def nothing(data):
        await asyncio.sleep(0)

    @event_handler("a:fails")
    async def fails(data):
        return data["missing"]

    @event_handler("a:exits")
    async def exits(data):
        raise SystemExit(3)

    @event_handler("a:no_json")
    async def no_json(data):
        return {"list": [1, {"deep": object()}]}

    @event_handler("a:nan")
    async def nan(data):
        return {"x": float("inf")}

    @event_handler("a:blocks")
    def blocks(data):
        time.sleep(data)
        return threading.current_thread().name

    @event_handler("a:blocks_and_fails")
    def blocks_and_fails(data, context):
        raise ValueError("no such thing")

    @event_handler("a:holds")
    async def holds(data):
        ends = time.monotonic() + data
        while time.monotonic() < ends:
            pass
        return "done"

    @event_handler("a:sleeps")
    async def sleeps(data):
        time.sleep(data)
        return "done"

    @event_handler("a:waits")
    async def waits(data):
        try:
            await asyncio.sleep(60)
        finally:
            log.info("it was cancelled")

    @event_handler("a:stubborn")
    async def stubborn(data):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "all the same"

    @event_handler("a:large")
    async def large(data):
        return "x" * data

    @event_handler("a:length")
    async def length(data):
        return len(data)

    def wrapped(func):
        def wrapper(data):
            return func(data)
        return wrapper

    @event_handler("a:wrapped_context")
    def wrapped_context(data, context):
        async def rest():
            if data == "keep":
                held.append(context)
            await asyncio.sleep(0)
            await emit_event("b:rest", data)
            log.info("rest")
            return data
        return rest()

    @event_handler("a:wrapped")
    @wrapped
    async def inner(data):
        await asyncio.sleep(0)
        return ["wrapped", data]

    @event_handler("a:filtered", filter_func=lambda name, data, context: data > 1)
    async def filtered(data):
        return data

    @event_handler("a:keeps")
    async def keeps(data, context):
        held.append(context)

    @event_handler("a:lets_go")
    async def lets_go(data):
        held.clear()

    @event_handler("a:emits_later")
    async def emits_later(data, context):
        return await emit_event("b:later", data, held[0])

    @event_handler("a:starts")
    async def starts(data):
        async def work():
            await asyncio.sleep(0.02)
            await emit_event("b:work", 1)
        asyncio.create_task(work())

    @event_handler("a:starts_alone")
    async def starts_alone(data):
        async def work():
            await asyncio.sleep(0)
            await emit_event("b:work", 1)
        contextvars.Context().run(asyncio.create_task, work())

    @event_handler("a:gathers")
    async def gathers(data):
        async def part(n):
            await asyncio.sleep(0)
            return n
        return await asyncio.gather(*(part(n) for n in range(data)))

    @event_handler("a:times_out")
    async def times_out(data, context):
        try:
            await asyncio.wait_for(asyncio.sleep(0.001), 60)
        finally:
            pass
        return 1
"""


LITTLE_MEMORY = """
    @event_handler("a:memory")
    async def has_more_memory(data):
        import resource
        if data is None:
            return
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + data, -1))
"""

VALUES = """
    import datetime, enum, uuid
    from ksi.events import event_handler
    class Color(enum.Enum):
        RED = "red"
    class Wrong(enum.Enum):
        ONE = object()
    class Level(enum.IntEnum):
        LOW = 1
    @event_handler("a:give")
    async def give(data):
        return eval(data)
"""


class Calls(WorkerTest):
    def test_a_reply_is_the_json_of_what_a_handler_gives(self) -> None:
        host = self.live(MODULE)
        for value in [{"a": [1, 2.5, None, True, "ü\u2028"]}, 0, "", [], False]:
            self.assertEqual(host.asked("echo", value), value)
        self.assertIsNone(host.asked("nothing"))
        self.assertEqual(host.shut_down(), 0)

    def test_a_context_has_what_ksi_has_in_it(self) -> None:
        host = self.live(MODULE)
        context = host.asked(
            "context",
            name="a:context",
            attributes={"_agent_id": "x", "_correlation_id": "c-1"},
            event=1 << 63,
            parent=5,
            root=4,
            depth=2,
        )
        self.assertEqual(context["_event_id"], str(1 << 63))
        expected = {"_parent_event_id": "5", "_root_event_id": "4", "_event_depth": 2}
        expected |= {"_agent_id": "x", "_correlation_id": "c-1", "_source": "tester"}
        expected |= {"event": "a:context", "_timestamp": 1.7e9}
        self.assertEqual({key: context[key] for key in expected}, expected)
        self.assertIsNone(host.asked("context")["_parent_event_id"])
        self.assertEqual(host.asked("keyword", event=9), "9")

    def test_an_exception_is_a_failure_that_says_where(self) -> None:
        host = self.live(MODULE, file="/plugins/sample.py")
        code, message = host.ends(host.call("fails", {})).failure()
        self.assertEqual(code, "KeyError")
        first, place = message.split("\n")
        self.assertEqual(first, "KeyError: 'missing'")
        self.assertRegex(place, r'/plugins/sample.py, line \d+, in fails: return data\["missing"\]')
        code, message = host.ends(host.call("blocks_and_fails", {})).failure()
        self.assertEqual(
            (code, message.split("\n")[0]), ("ValueError", "ValueError: no such thing")
        )

    def test_a_handler_that_ends_the_interpreter_is_a_failure(self) -> None:
        host = self.live(MODULE)
        code, message = host.ends(host.call("exits")).failure()
        self.assertEqual((code, message.split("\n")[0]), ("SystemExit", "SystemExit: 3"))
        self.assertEqual(host.asked("echo", 1), 1)

    def test_a_reply_that_is_no_json_says_where_it_is_none(self) -> None:
        host = self.live(MODULE)
        code, message = host.ends(host.call("no_json")).failure()
        self.assertEqual(code, "not_json")
        self.assertEqual(
            message, "the reply of no_json is no JSON: ['list'][1]['deep'] is a object"
        )

    def test_what_has_json_does_not_depend_on_what_the_plugin_has_installed(self) -> None:
        host = self.live(VALUES)
        place = "the reply of give is no JSON: "
        for value, expected in (
            ("uuid.UUID(int=5)", "00000000-0000-0000-0000-000000000005"),
            ("[Color.RED, Level.LOW]", ["red", 1]),
            ("{1: 2, .5: 3, None: 4, False: 5}", {"1": 2, "0.5": 3, "null": 4, "false": 5}),
            ("{'a': {Level.LOW: uuid}}", place + "['a'][<Level.LOW: 1>] is a module"),
            ("{Color.RED: 1}", place + "a key in the value itself is the Color <Color.RED: 'red'>"),
            ("[{uuid.UUID(int=5): 1}]", place + "a key in [0] is the UUID UUID('00000000-"),
            ("{datetime.date(2026, 1, 2): 1}", place + "a key in the value itself is the date"),
            ("[Color.RED, Wrong.ONE]", place + "[1] is a object"),
            ("datetime.date(2026, 1, 2)", place + "the value itself is a date"),
        ):
            with self.subTest(value):
                end = host.ends(host.call("give", value))
                if end.kind == "REPLY":
                    self.assertEqual(end.json(), expected)
                else:
                    code, message = end.failure()
                    self.assertEqual(code, "not_json")
                    self.assertIn(str(expected), message)
        for wrong in (b"NaN", b"[-Infinity]", b" NaN", b'{"a": Infinity }'):
            number = host.put("CALL", host.call_frame("give", "a:give", {}), wrong)
            self.assertIn("is no number of JSON", host.ends(number).failure()[1])

    def test_numbers_of_any_length_are_never_changed(self) -> None:
        host = self.live(MODULE)
        for value in (2**64 - 1, 2**64 + 1, -(2**63), -(2**63) - 1, 10**400, [1, -(2**70)]):
            self.assertEqual(repr(host.asked("echo", value)), repr(value))
        for shape in ([0] * 2000, ["text" * 500], [[{"a": "text" * 300}], 1.5, "1" * 30]):
            for padding in range(6):
                for number in (2**64 + 1, -(2**63) - 1):
                    value = ["x" * padding, shape, {"a": [number]}]
                    self.assertEqual(repr(host.asked("echo", value)), repr(value))
        # So many that the interpreter reads none of it.
        number = host.put("CALL", host.call_frame("echo", "a:echo", {}), b"9" * 5000)
        self.assertIn("4300", host.ends(number).failure()[1])

    def test_what_comes_is_no_json_is_a_failure(self) -> None:
        host = self.live(MODULE)
        for handler in ("echo", "blocks"):
            number = host.put("CALL", host.call_frame(handler, "a:x", {}), b'{"a":')
            self.assertEqual(host.ends(number).kind, "FAILED")

    def test_a_payload_that_cannot_be_read_is_a_failure_and_holds_up_nobody(self) -> None:
        host = self.live(MODULE + LITTLE_MEMORY)
        deep = b"[" * 100_000 + b"]" * 100_000
        large = b"[" + b"[]," * 4_000_000 + b"[]]"
        cases = [(None, deep), (160 << 20, large)]
        if importlib.util.find_spec("orjson"):
            # It has no exception for memory that is not there: the process ends.
            cases.pop()
        for memory, payload in cases:
            host.asked("has_more_memory", memory)
            for handler in ("echo", "blocks", "context"):
                with self.subTest(handler, memory=memory):
                    with host.together():
                        head = host.call_frame(handler, "a:x", {})
                        number = host.put("CALL", head, payload)
                        second = host.call("echo", 1)
                    ends = {frame.id: frame for frame in (host.next(), host.next())}
                    self.assertEqual(ends[number].kind, "FAILED")
                    self.assertEqual(ends[second].json(), 1)
        host.ping()

    def test_a_thread_that_cannot_be_had_is_a_failure(self) -> None:
        host = self.live(
            MODULE
            + """
    @event_handler("a:no_threads")
    async def no_threads(data):
        def refused(*_, **__):
            raise RuntimeError("can't start new thread")
        threading.Thread.start = refused
        """
        )
        host.asked("no_threads")
        code, message = host.ends(host.call("blocks", 0)).failure()
        self.assertEqual(code, "RuntimeError")
        self.assertIn("can't start new thread", message)
        self.assertEqual(host.asked("echo", 1), 1)

    def test_a_call_of_no_handler_is_a_failure(self) -> None:
        host = self.live(MODULE)
        self.assertEqual(host.ends(host.call(99)).failure()[0], "no_instance")

    def test_what_a_call_sets_in_its_context_is_not_there_for_the_next(self) -> None:
        host = self.live(
            """
            from contextvars import ContextVar
            from ksi.events import event_handler
            var = ContextVar("var", default="nothing")
            @event_handler("a:b")
            def blocks(data):
                before = var.get()
                var.set(data)
                return before
            @event_handler("a:c")
            async def waits(data):
                return blocks(data)
            """
        )
        for handler in ("blocks", "waits"):
            self.assertEqual([host.asked(handler, 1) for _ in range(2)], ["nothing", "nothing"])

    @unittest.skipIf(sys.version_info < (3, 11), "there are groups from 3.11 on")
    def test_errors_of_a_group_are_told(self) -> None:
        host = self.live(
            """
            from ksi.events import event_handler
            @event_handler("a:b")
            async def fails(data):
                inner = ExceptionGroup("inner", [OSError(n) for n in range(data)])
                raise ExceptionGroup("several", [KeyError("x"), inner])
            """
        )
        _, message = host.ends(host.call("fails", 2)).failure()
        expected = "ExceptionGroup: several (2 sub-exceptions)\n  of KeyError: 'x'\n"
        expected += "  of ExceptionGroup: inner (2 sub-exceptions)\n    of OSError: 0\n"
        self.assertTrue(message.startswith(expected), message)
        _, message = host.ends(host.call("fails", 1000)).failure()
        self.assertIn("    of OSError: 3\n    and 996 more\n", message)

    def test_a_handler_that_cancels_itself_is_told_apart(self) -> None:
        host = self.live(
            """
            import asyncio
            from ksi.events import event_handler
            @event_handler("a:b")
            async def cancels(data):
                asyncio.current_task().cancel()
                await asyncio.sleep(10)
            """
        )
        code, message = host.ends(host.call("cancels")).failure()
        self.assertEqual(code, "cancelled")
        self.assertTrue(message.startswith("it was cancelled, and not by the host"), message)

    def test_a_filter_that_says_no_makes_no_reply(self) -> None:
        host = self.live(MODULE)
        self.assertEqual(host.asked("filtered", 2), 2)
        self.assertIsNone(host.asked("filtered", 1))

    def test_an_ordinary_function_runs_on_a_thread_of_its_own(self) -> None:
        host = self.live(MODULE)
        slow = host.call("blocks", 0.3)
        fast = host.call("echo", 1)
        self.assertEqual(host.ends(fast).json(), 1)
        self.assertTrue(host.ends(slow).json().startswith("ksi-handler"))
        described = {it["name"]: it["blocking"] for it in host.description["handlers"]}
        self.assertEqual((described["blocks"], described["echo"]), (True, False))

    def test_an_ordinary_function_that_gives_a_coroutine_is_awaited(self) -> None:
        host = self.live(MODULE)
        self.assertEqual(host.asked("wrapper", 1), ["wrapped", 1])

    def test_calls_that_come_together_end_in_their_order(self) -> None:
        host = self.live(MODULE)
        body, calls = b"", []
        for index in range(64):
            number = host.number()
            frame = host.call_frame("echo", "a:echo", {}) + json.dumps(index).encode()
            body += struct.pack("<IBBHQ", len(frame), 16, 0, 0, number) + frame
            calls.append(number)
        host.socket.sendall(body)
        self.assertEqual([host.next().id for _ in calls], calls)


class Cancelling(WorkerTest):
    def test_a_call_that_nobody_waits_for_is_cancelled(self) -> None:
        host = self.live(MODULE)
        number = host.call("waits")
        self.assertEqual(host.asked("echo", 1), 1)
        host.put("CANCEL", id=number)
        self.assertEqual(host.ends(number).failure()[0], "cancelled")
        self.assertIn("it was cancelled", [line[3] for line in host.logs()])

    def test_a_call_that_is_cancelled_at_once_ends_all_the_same(self) -> None:
        host = self.live(MODULE)
        number = host.number() + 1
        frame = host.call_frame("waits", "a:waits", {}) + b"null"
        call = struct.pack("<IBBHQ", len(frame), 16, 0, 0, number) + frame
        host.socket.sendall(call + struct.pack("<IBBHQ", 0, 22, 0, 0, number))
        self.assertEqual(host.ends(number).failure()[0], "cancelled")

    def test_a_handler_may_end_its_own_way_when_it_is_cancelled(self) -> None:
        host = self.live(MODULE)
        number = host.call("stubborn")
        self.assertEqual(host.asked("echo", 1), 1)
        host.put("CANCEL", id=number)
        self.assertEqual(host.ends(number).json(), "all the same")

    def test_a_thread_that_is_cancelled_ends_when_it_ends(self) -> None:
        host = self.live(MODULE)
        number = host.call("blocks", 0.2)
        host.put("CANCEL", id=number)
        self.assertEqual(host.ends(number).kind, "REPLY")

    def test_a_cancel_of_a_call_that_is_over_is_nothing(self) -> None:
        host = self.live(MODULE)
        number = host.call("echo", 1)
        host.ends(number)
        host.put("CANCEL", id=number)
        self.assertEqual(host.asked("echo", 2), 2)

    def test_an_emit_of_a_cancelled_call_is_given_up(self) -> None:
        host = self.live(
            """
            from ksi.events import event_handler, emit_event
            @event_handler("a:asks")
            async def asks(data):
                return await emit_event("b:c")
            """
        )
        number = host.call("asks")
        emit = host.until("EMIT")
        host.put("CANCEL", id=number)
        self.assertEqual(host.until("CANCEL").id, emit.id)
        self.assertEqual(host.ends(number).failure()[0], "cancelled")


class LargePayloads(WorkerTest):
    def test_a_large_reply_goes_in_a_sealed_memory_file(self) -> None:
        host = self.live(MODULE)
        size = 300 << 10
        end = host.ends(host.call("large", size))
        self.assertTrue(end.in_file)
        self.assertEqual(len(end.json()), size)
        self.assertFalse(host.ends(host.call("large", 200 << 10)).in_file)

    def test_a_large_payload_is_read_from_a_memory_file(self) -> None:
        host = self.live(MODULE)
        size = 3 << 20
        body = host.call_frame("length", "a:length", {})
        number = host.put_in_file("CALL", body, b'"' + b"x" * size + b'"')
        self.assertEqual(host.ends(number).json(), size)
        # Where there are no such files it comes as it is, in many reads.
        self.assertEqual(host.asked("length", "x" * size), size)

    def test_a_memory_file_that_is_not_sealed_ends_the_worker(self) -> None:
        host = self.live(MODULE)
        host.put_in_file("CALL", host.call_frame("length", "a:b", {}), b'""', seals=0)
        host.process.wait(10)
        self.assertIn("none of a file in memory that is sealed", host.words())

    def test_a_reply_beyond_the_limit_is_a_failure(self) -> None:
        host = self.live(MODULE, limits={"payload": 1000})
        code, message = host.ends(host.call("large", 2000)).failure()
        self.assertEqual(code, "too_large")
        self.assertIn("2002 bytes, and 1000 are allowed (limits.payload_bytes)", message)

    def test_descriptors_are_not_used_up(self) -> None:
        host = self.live(MODULE)

        def count() -> int:
            return len(os.listdir(f"/proc/{host.process.pid}/fd"))

        host.asked("large", 300 << 10)
        host.ping()
        before = count()
        for _ in range(20):
            host.asked("large", 300 << 10)
            number = host.put_in_file("CALL", host.call_frame("length", "a:b", {}), b'"x"')
            host.ends(number)
        host.ping()
        self.assertEqual(count(), before)


class Contexts(WorkerTest):
    def test_a_context_that_is_held_keeps_its_call_until_it_is_let_go(self) -> None:
        host = self.live(MODULE)
        kept = host.call("keeps")
        self.assertTrue(host.ends(kept).keeps)
        host.call("emits_later", 5)
        emit = host.until("EMIT").emit()
        self.assertEqual((emit.call, emit.name, emit.data), (kept, "b:later", 5))
        host.put("REPORT", struct.pack("<I", 0), id=emit.id)
        self.assertEqual(host.next().kind, "REPLY")
        host.call("lets_go")
        self.assertEqual(host.until("RELEASE").id, kept)

    def test_a_context_that_nobody_holds_is_not_kept(self) -> None:
        host = self.live(MODULE)
        for handler in ("context", "keyword", "times_out", "fails", "blocks_and_fails"):
            end = host.ends(host.call(handler, {}))
            self.assertFalse(end.keeps, handler)

    def test_a_coroutine_that_an_ordinary_function_gives_is_of_the_same_call(self) -> None:
        host = self.live(MODULE)
        for data, keeps in (("let go", False), ("keep", True)):
            number = host.call("wrapped_context", data)
            frame = host.until("EMIT")
            self.assertEqual(frame.emit().call, number)
            host.report(frame, [])
            end = host.ends(number)
            self.assertEqual((end.json(), end.keeps), (data, keeps))
            self.assertEqual([it[0] for it in host.logs() if it[3] == "rest"][-1], number)
        host.call("emits_later", 5)
        frame = host.until("EMIT")
        self.assertEqual(frame.emit().call, number)
        host.report(frame, [])
        self.assertEqual(host.next().kind, "REPLY")
        host.call("lets_go")
        self.assertEqual(host.until("RELEASE").id, number)

    def test_a_coroutine_that_is_cancelled_before_it_begins_keeps_what_its_function_kept(
        self,
    ) -> None:
        host = self.live(
            """
            import logging, time
            from ksi.events import event_handler
            held = []
            async def rest(): ...
            @event_handler("a:keeps")
            def keeps(data, context):
                time.sleep(0.1)
                held.append(context)
                return rest()
            @event_handler("a:holds")
            async def holds(data):
                logging.getLogger("sample").warning("holds")
                time.sleep(0.5)
            @event_handler("a:lets_go")
            async def lets_go(data):
                held.clear()
            """
        )
        number = host.call("keeps")
        host.call("holds")
        # The loop is held then, and does what comes meanwhile in one turn.
        host.until("LOG")
        host.put("CANCEL", id=number)
        while (end := host.next()).id != number:
            pass
        self.assertTrue(end.keeps, end)
        host.call("lets_go")
        self.assertEqual(host.until("RELEASE").id, number)

    def test_a_task_that_a_handler_starts_emits_in_its_name(self) -> None:
        host = self.live(MODULE)
        number = host.call("starts")
        self.assertTrue(host.ends(number).keeps)
        frame = host.until("EMIT")
        self.assertEqual(frame.emit().call, number)
        host.report(frame, [])
        self.assertEqual(host.until("RELEASE").id, number)

    def test_a_task_with_a_context_of_its_own_emits_in_nobodys_name(self) -> None:
        host = self.live(MODULE)
        self.assertFalse(host.ends(host.call("starts_alone")).keeps)
        self.assertEqual(host.until("EMIT").emit().call, 0)

    def test_tasks_that_end_within_a_call_keep_nothing(self) -> None:
        host = self.live(MODULE)
        end = host.ends(host.call("gathers", 5))
        self.assertEqual((end.json(), end.keeps), ([0, 1, 2, 3, 4], False))

    def test_no_more_contexts_are_kept_than_are_allowed(self) -> None:
        host = self.live(MODULE, limits={"kept_contexts": 1})
        ends = [host.ends(host.call("keeps")).keeps for _ in range(3)]
        self.assertEqual(ends, [True, False, False])


class Health(WorkerTest):
    def ping_while(self, host: FakeHost, handler: str) -> None:
        number = host.call(handler, 1.5)
        for _ in range(3):
            self.assertLess(host.ping(), 0.75)
        other = host.call("echo", 1)
        self.assertEqual(host.next().id, number)
        self.assertEqual(host.ends(other).json(), 1)

    def test_a_ping_is_answered_while_a_handler_computes(self) -> None:
        self.ping_while(self.live(MODULE), "holds")

    def test_a_ping_is_answered_while_a_handler_blocks_the_loop(self) -> None:
        self.ping_while(self.live(MODULE), "sleeps")

    def test_a_ping_that_comes_with_a_call_is_answered_before_its_end(self) -> None:
        host = self.live(MODULE)
        frame = host.call_frame("sleeps", "a:b", {}) + b"1.5"
        number, ping = host.number(), host.number()
        call = struct.pack("<IBBHQ", len(frame), 16, 0, 0, number) + frame
        host.socket.sendall(call + struct.pack("<IBBHQ", 0, 80, 0, 0, ping))
        self.assertEqual(host.next(1).id, ping)
        self.assertEqual(host.next().id, number)

    def test_a_ping_is_answered_while_threads_compute(self) -> None:
        host = self.live(
            """
            from ksi.events import event_handler
            @event_handler("a:loops")
            def loops(data):
                while True:
                    pass
            """
        )
        for _ in range(3):
            host.call("loops")
        self.assertLess(max(host.ping() for _ in range(3)), 2)

    def test_a_ping_is_answered_while_a_file_is_imported(self) -> None:
        host = self.host()
        host.open(self.write("import time\ntime.sleep(1.5)\n"), wait=False)
        self.assertLess(host.ping(), 0.75)
        self.assertEqual(host.next().kind, "OPENED")

    def test_what_it_takes_is_told(self) -> None:
        host = self.live(MODULE)
        host.call("waits")
        host.asked("echo", 1)
        host.ping()
        stats = [frame.json() for frame in host.unasked if frame.kind == "STATS"][-1]
        self.assertEqual((stats["calls"], stats["tasks"]), (1, 0))
        self.assertGreater(stats["memory"], 1 << 20)


if __name__ == "__main__":
    unittest.main()

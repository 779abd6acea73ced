"""What a module asks of its host: emits, subscriptions and watches."""

import struct
import unittest

from .host import Fields, WorkerTest, outcome, passed, text

MODULE = """
    import asyncio
    from ksi.events import EventRefused, emit_event, emit_event_first, event_handler, send_event
    from ksi.router import get_router

    router = get_router()
    heard = []

    async def catches(work):
        try:
            return await work
        except EventRefused as error:
            return [error.code, str(error)]

    @event_handler("a:emits")
    async def emits(data):
        return await catches(emit_event("b:c", data))

    @event_handler("a:named")
    async def named(data):
        return await catches(emit_event(data, {}))

    @event_handler("a:first")
    async def first(data):
        return await emit_event_first("b:c", data)

    @event_handler("a:nothing")
    async def nothing(data):
        return await emit_event("b:c")

    @event_handler("a:agent")
    async def agent(data, context):
        await router.emit("b:c", data, {**context, "_agent_id": "me"})
        await router.emit("b:c", data, context, timeout=1.5)

    @event_handler("a:no_json")
    async def no_json(data):
        return await catches(emit_event("b:c", {"x": {1, 2}}))

    @event_handler("a:large")
    async def large(data):
        return await catches(emit_event("b:c", "x" * data))

    @event_handler("a:many")
    async def many(data):
        ends = await asyncio.gather(*(catches(emit_event("b:c", n)) for n in range(data)))
        return ends

    @event_handler("a:sends")
    async def sends(data):
        return [await catches(send_event("b:c", n)) for n in range(data)]

    @event_handler("a:background")
    async def background(data):
        async def work():
            await asyncio.sleep(0)
            await emit_event("b:late", 1)
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, lambda: heard.append(loop.create_task(work())))

    @event_handler("a:subscribes")
    async def subscribes(data):
        heard.append(router.subscribe(data, lambda data: {"heard": data}, priority=10, timeout=2))

    @event_handler("a:unsubscribes")
    async def unsubscribes(data):
        router.unsubscribe(heard.pop())

    @event_handler("a:watches")
    async def watches(data):
        seen = []
        async with router.watch("w:*", "v:x", capacity=3) as events:
            async for event in events:
                seen.append([event.name, event.data, event.context["_event_id"]])
                if event.data == "last":
                    break
        return [seen, events.missed]

    @event_handler("a:waits_for")
    async def waits_for(data):
        try:
            return await router.wait_for_event("w:x", lambda data: data > 1, timeout=data)
        except asyncio.TimeoutError:
            return "too late"
"""


class Emits(WorkerTest):
    def test_an_emit_names_its_call_and_gives_the_replies(self) -> None:
        host = self.live(MODULE)
        number = host.call("emits", {"n": 1})
        frame = host.until("EMIT")
        emit = frame.emit()
        self.assertEqual((emit.how, emit.form, emit.call), (0, 1, number))
        self.assertEqual((emit.name, emit.data, emit.attributes), ("b:c", {"n": 1}, {}))
        self.assertEqual((emit.timeout, emit.depth), (0, 0))
        host.report(frame, [{"r": 1}, None, "two"], outcome(1, plugin="p", handler="h"), 1)
        self.assertEqual(host.ends(number).json(), [{"r": 1}, "two"])

    def test_what_is_not_said_is_an_empty_object(self) -> None:
        host = self.live(MODULE)
        host.call("nothing")
        self.assertEqual(host.until("EMIT").emit().data, {})

    def test_the_first_reply_alone(self) -> None:
        host = self.live(MODULE)
        for replies, expected in (([1, 2], 1), ([], None)):
            number = host.call("first", 1)
            host.report(host.until("EMIT"), replies)
            end = host.ends(number)
            self.assertEqual(end.json() if end.kind == "REPLY" else None, expected)

    def test_failures_are_logged_and_left_out(self) -> None:
        host = self.live(MODULE)
        number = host.call("emits", 1)
        failed = outcome(2, plugin="other", handler="h", code="KeyError", message="no 'x'")
        failed += outcome(6, plugin="third", handler="g", message="its process ended")
        host.report(host.until("EMIT"), [5], failed, 2)
        self.assertEqual(host.ends(number).json(), [5])
        lines = [line for line in host.logs() if line[1] == 2]
        self.assertEqual(
            [line[3] for line in lines],
            [
                "a handler of b:c failed: other.h (KeyError): no 'x'",
                "a handler of b:c crashed: third.g: its process ended",
            ],
        )
        self.assertEqual(lines[0][0], number)

    def test_a_refusal_is_raised_with_its_code(self) -> None:
        host = self.live(MODULE)
        number = host.call("emits", 1)
        host.refuse(host.until("EMIT"), 22, "the operator does not let it")
        self.assertEqual(host.ends(number).json(), [22, "the operator does not let it"])
        number = host.call("emits", 1)
        refused = outcome(5, refusal=6, code="rejected", message="the chain is too long")
        host.report(host.until("EMIT"), [], refused, 1)
        self.assertEqual(host.ends(number).json(), [6, "the chain is too long"])

    def test_what_is_wrong_is_told_before_the_host_is_asked(self) -> None:
        host = self.live(MODULE, limits={"payload": 1000})
        self.assertEqual(host.asked("named", "no name")[0], 1)
        self.assertEqual(host.asked("named", "a:*")[0], 1)
        code, words = host.asked("no_json")
        self.assertEqual(code, 7)
        self.assertEqual(words, "what b:c carries is no JSON: ['x'] is a set")
        code, words = host.asked("large", 1000)
        self.assertEqual(code, 5)
        self.assertIn("1002 bytes, and 1000 are allowed (limits.payload_bytes)", words)

    def test_a_large_payload_goes_in_a_memory_file(self) -> None:
        host = self.live(MODULE)
        host.call("large", 300 << 10)
        frame = host.until("EMIT")
        self.assertTrue(frame.in_file)
        self.assertEqual(len(frame.emit().data), 300 << 10)

    def test_no_more_is_asked_for_than_may_be_open(self) -> None:
        host = self.live(MODULE, limits={"emits": 2})
        number = host.call("many", 3)
        for _ in range(2):
            host.report(host.until("EMIT"), [])
        ends = host.ends(number).json()
        self.assertEqual((ends[:2], ends[2][0]), ([[], []], 21))

    def test_what_is_sent_is_bounded_until_it_is_handled(self) -> None:
        host = self.live(MODULE, limits={"sends": 2})
        number = host.call("sends", 3)
        frames = [host.until("EMIT") for _ in range(2)]
        self.assertEqual([frame.emit().how for frame in frames], [2, 2])
        ends = host.ends(number).json()
        self.assertEqual((ends[:2], ends[2][0]), ([None, None], 3))
        host.put("DONE", id=frames[0].id)
        host.refuse(frames[1], 4, "too many bytes wait")
        number = host.call("sends", 2)
        for _ in range(2):
            host.until("EMIT")
        self.assertEqual(host.ends(number).json(), [None, None])
        self.assertTrue(any("too many bytes wait" in line[3] for line in host.logs()))

    def test_a_context_hands_on_whose_event_it_is(self) -> None:
        host = self.live(MODULE)
        attributes = {"_agent_id": "you", "_client_id": "c", "other": "o"}
        number = host.call("agent", 1, attributes=attributes)
        frame = host.until("EMIT")
        emit = frame.emit()
        self.assertEqual(emit.attributes, {"_agent_id": "me", "_client_id": "c"})
        self.assertEqual(emit.call, number)
        host.report(frame, [])
        frame = host.until("EMIT")
        emit = frame.emit()
        # What it has of its parent anyway is not said again.
        self.assertEqual((emit.attributes, emit.timeout), ({}, 1_500_000_000))
        host.report(frame, [])
        self.assertEqual(host.ends(number).kind, "NO_REPLY")

    def test_what_is_emitted_outside_of_a_call_has_no_parent(self) -> None:
        host = self.live(MODULE)
        self.assertFalse(host.ends(host.call("background")).keeps)
        self.assertEqual(host.until("EMIT").emit().call, 0)

    def test_in_a_trial_nothing_is_emitted(self) -> None:
        host = self.live(MODULE, trial=True)
        self.assertEqual(host.asked("emits", 1), [])
        self.assertEqual(host.asked("sends", 1), [None])
        self.assertEqual(host.shut_down(), 0)

    def test_emits_of_the_import_wait_for_the_instance(self) -> None:
        host = self.opens(
            """
            import asyncio
            from ksi.events import emit_event
            task = asyncio.get_running_loop().create_task(emit_event("b:early"))
            """
        )
        host.ping()
        number = host.put("CREATE", b"null")
        host.until("CREATED", number)
        self.assertEqual(host.until("EMIT").emit().name, "b:early")


BLOCKING = """
    import asyncio
    from ksi.events import EventRefused, emit_event, event_handler, send_event
    from ksi.router import get_router

    router = get_router()

    @event_handler("a:emits")
    def emits(data):
        return asyncio.run(emit_event("b:c", data))

    @event_handler("a:sends")
    def sends(data):
        asyncio.run(send_event("b:c", data))

    @event_handler("a:refused")
    def refused(data):
        try:
            asyncio.run(emit_event("no name"))
        except EventRefused as error:
            return error.code

    @event_handler("a:starts")
    def starts(data):
        async def work(how):
            await asyncio.sleep(0.01)
            await emit_event("b:" + how)
        async def stops():
            await router.start_task("endless", asyncio.sleep, 60)
            await router.stop_task("endless")
            return "endless" in router._tasks
        asyncio.run(router.start_task("one", work("coroutine")))
        asyncio.run(router.start_task("other", work, "function"))
        router.register_transformer_from_yaml({"source": "a:b"})
        return asyncio.run(stops())

    @event_handler("a:late")
    def late(data):
        try:
            asyncio.run(asyncio.wait_for(emit_event("b:c"), 0.05))
        except asyncio.TimeoutError:
            return "too late"

    @event_handler("a:waits_for")
    def waits_for(data):
        return asyncio.run(router.wait_for_event("w:x", timeout=data))

    @event_handler("a:watches")
    def watches(data):
        async def both():
            async with router.watch("w:*") as events:
                first = await events.next(10)
                async for second in events:
                    return [first.data, second.data]
        return asyncio.run(both())
"""


class OnThreads(WorkerTest):
    """Ordinary functions, which have no loop but those that they make."""

    def test_what_blocks_emits_with_a_loop_of_its_own(self) -> None:
        host = self.live(BLOCKING)
        number = host.call("emits", {"n": 1})
        frame = host.until("EMIT")
        self.assertEqual((frame.emit().call, frame.emit().data), (number, {"n": 1}))
        host.report(frame, [5])
        self.assertEqual(host.ends(number).json(), [5])
        number = host.call("sends", 2)
        emit = host.until("EMIT").emit()
        self.assertEqual((emit.how, emit.call, emit.data), (2, number, 2))
        self.assertEqual(host.ends(number).kind, "NO_REPLY")
        self.assertEqual(host.asked("refused"), 1)

    def test_what_blocks_starts_tasks_that_go_on(self) -> None:
        host = self.live(BLOCKING)
        number = host.call("starts")
        emits = {}
        while len(emits) < 3:
            frame = host.until("EMIT", timeout=3)
            emits[frame.emit().name] = frame.emit().call
            if frame.emit().how == 0:
                host.report(frame, [])
            else:
                host.put("DONE", id=frame.id)
        expected = ("b:coroutine", "b:function", "router:register_transformer")
        self.assertEqual(emits, dict.fromkeys(expected, number))
        self.assertEqual(host.until("REPLY", number).json(), False)

    def test_a_thread_that_goes_on_emits_as_what_is_left_of_a_module_may(self) -> None:
        host = self.live(
            """
            import asyncio, threading
            from ksi.events import emit_event, event_handler
            go, seen = threading.Event(), []
            def later():
                go.wait(10)
                seen.append(asyncio.run(emit_event("b:c")))
            threading.Thread(target=later, daemon=True).start()
            @event_handler("a:b")
            async def lets_go(data):
                go.set()
            @event_handler("a:c")
            async def reads(data):
                return seen
            """
        )
        self.assertEqual(host.ends(host.put("DETACH")).kind, "NO_REPLY")
        number = host.call("lets_go")
        frame = host.until("EMIT", timeout=3)
        host.until("NO_REPLY", number)
        # What the host makes of it is the host's.
        host.report(frame, [1])
        while not host.asked("reads"):
            pass
        self.assertEqual(host.logs(), [])

    def test_what_nobody_awaits_any_more_is_cancelled(self) -> None:
        host = self.live(BLOCKING)
        number = host.call("late")
        frame = host.until("EMIT")
        self.assertEqual(host.until("CANCEL").id, frame.id)
        self.assertEqual(host.ends(number).json(), "too late")

    def test_what_blocks_looks_on_at_events(self) -> None:
        host = self.live(BLOCKING)
        number = host.call("waits_for", 10)
        watch = host.until("WATCH")
        host.put("WATCHED", b"\0", passed("w:x", 1), id=watch.id)
        self.assertEqual(host.until("UNWATCH", timeout=5).id, watch.id)
        self.assertEqual(host.ends(number).json(), 1)
        number = host.call("watches")
        watch = host.until("WATCH")
        host.put("WATCHED", b"\0", passed("w:x", 1), id=watch.id)
        host.put("WATCHED", b"\0", passed("w:y", 2), id=watch.id)
        self.assertEqual(host.until("UNWATCH").id, watch.id)
        self.assertEqual(host.ends(number).json(), [1, 2])


class AtRunTime(WorkerTest):
    def test_a_handler_is_subscribed_and_called_and_unsubscribed(self) -> None:
        host = self.live(MODULE)
        number = host.call("subscribes", "x:*")
        asked = host.until("SUBSCRIBE")
        fields = Fields(asked.body)
        handler, priority, timeout = fields.take("Q"), fields.take("i"), fields.take("Q")
        self.assertEqual((handler, priority, timeout), (1 << 32, 40, 2_000_000_000))
        self.assertEqual((fields.text(), asked.flags), ("x:*", 4))
        host.until("NO_REPLY", number)
        self.assertEqual(host.asked(handler, 5), {"heard": 5})
        number = host.call("unsubscribes")
        self.assertEqual(host.until("UNSUBSCRIBE").id, asked.id)
        host.until("NO_REPLY", number)
        self.assertEqual(host.ends(host.call(handler, 5)).failure()[0], "no_instance")

    def test_subscriptions_are_bounded(self) -> None:
        host = self.live(MODULE, limits={"subscriptions": 1})
        host.call("subscribes", "x:*")
        host.until("SUBSCRIBE")
        host.next()
        code, message = host.ends(host.call("subscribes", "y:*")).failure()
        self.assertEqual(code, "EventRefused")
        self.assertIn("1 are allowed (limits.subscriptions)", message)

    def test_a_watch_shows_what_passes(self) -> None:
        host = self.live(MODULE)
        number = host.call("watches")
        watch = host.until("WATCH")
        expected = struct.pack("<QI", 3, 2) + text("w:*") + text("v:x")
        self.assertEqual(watch.body, expected)
        host.put("WATCHED", b"\0", passed("w:a", {"n": 1}, event=11), id=watch.id)
        host.put("WATCHED", b"\0", passed("v:x", "last", event=12), id=watch.id)
        self.assertEqual(host.until("UNWATCH").id, watch.id)
        seen, missed = host.ends(number).json()
        self.assertEqual(seen, [["w:a", {"n": 1}, "11"], ["v:x", "last", "12"]])
        self.assertEqual(missed, 0)

    def test_a_watch_says_what_it_has_missed_and_ends_with_the_plugin(self) -> None:
        host = self.live(MODULE)
        number = host.call("watches")
        watch = host.until("WATCH")
        host.put("WATCHED", b"\0", passed("w:a", 1), id=watch.id)
        host.put("WATCHED", b"\1", struct.pack("<Q", 4), id=watch.id)
        self.assertEqual(host.ends(number).json(), [[["w:a", 1, "7"]], 4])
        number = host.call("watches")
        watch = host.until("WATCH")
        host.put("WATCHED", b"\2", id=watch.id)
        self.assertEqual(host.ends(number).json(), [[], 0])
        number = host.call("watches")
        host.until("WATCH")
        host.put("DETACH")
        self.assertEqual(host.until("REPLY", number).json(), [[], 0])

    def test_an_event_that_cannot_be_read_is_a_missed_one(self) -> None:
        host = self.live(MODULE)
        number = host.call("watches")
        watch = host.until("WATCH")
        deep = passed("w:a", 1)[:-1] + b"[" * 100_000 + b"]" * 100_000
        with host.together():
            host.put("WATCHED", b"\0", passed("w:a", 1), id=watch.id)
            host.put("WATCHED", b"\0", deep, id=watch.id)
            second = host.call("nothing")
        self.assertEqual(host.until("EMIT").emit().call, second)
        self.assertEqual(host.until("REPLY", number).json(), [[["w:a", 1, "7"]], 1])
        self.assertEqual(host.until("UNWATCH").id, watch.id)

    def test_a_watch_that_is_refused_ends(self) -> None:
        host = self.live(MODULE)
        number = host.call("watches")
        host.refuse(host.until("WATCH"), 10, "too many")
        self.assertEqual(host.ends(number).json(), [[], 0])

    def test_one_event_is_waited_for(self) -> None:
        host = self.live(MODULE)
        number = host.call("waits_for", 10)
        watch = host.until("WATCH")
        for value in (1, 2):
            host.put("WATCHED", b"\0", passed("w:x", value), id=watch.id)
        host.until("UNWATCH")
        self.assertEqual(host.ends(number).json(), 2)
        number = host.call("waits_for", 0.01)
        host.until("WATCH")
        host.until("UNWATCH")
        self.assertEqual(host.ends(number).json(), "too late")

    def test_tasks_are_bounded(self) -> None:
        host = self.live(
            """
            import asyncio
            from ksi.events import event_handler
            @event_handler("a:b")
            async def starts(data):
                def later():
                    started.append(loop.create_task(asyncio.sleep(60)))
                loop, started = asyncio.get_running_loop(), []
                for _ in range(2):
                    try:
                        # Outside of this call.
                        import contextvars
                        contextvars.Context().run(later)
                    except Exception as error:
                        return str(error)
            """,
            limits={"tasks": 1},
        )
        self.assertIn("no more are allowed (limits.background_tasks)", host.asked("starts"))


if __name__ == "__main__":
    unittest.main()

"""Modules in the form of KSI's own, written for this: what they import, and how they live."""

import os
import unittest
from typing import Any

from ksi.describing import program

from .host import FakeHost, WorkerTest

SERVICE = """
    import asyncio
    from typing import Any, Dict, NotRequired_ as NotRequired, Optional, TypedDict
    from ksi_common.event_response_builder import (
        error_response, event_response_builder, list_response, success_response,
    )
    from ksi_common.logging import get_bound_logger
    from ksi_common.service_lifecycle import service_shutdown, service_startup
    from ksi_daemon.event_system import EventPriority, event_handler, get_router, shutdown_handler

    logger = get_bound_logger("ledger_service", version="1.0.0")
    event_emitter = None
    shutdown_event = None
    entries: Dict[str, Any] = {}
    life = []

    @service_startup("ledger_service", load_transformers=False)
    async def startup(data: Dict[str, Any], context: Optional[Dict[str, Any]] = None):
        life.append(["startup", data])
        return {"entries": len(entries)}

    @event_handler("system:context")
    async def handle_context(data: Dict[str, Any], context: Any = None) -> None:
        global event_emitter, shutdown_event
        event_emitter, shutdown_event = data.get("emit_event"), data.get("shutdown_event")
        life.append(["context", sorted(data)])

    @event_handler("system:ready")
    async def handle_ready(data, context=None) -> Dict[str, Any]:
        return event_response_builder({
            "service": "ledger_service",
            "tasks": [{"name": "keeper", "coroutine": keep_books()}],
        }, context)

    async def keep_books():
        life.append(["task begins"])
        await event_emitter("ledger:open", {"entries": len(entries)})
        await shutdown_event.wait()
        life.append(["task ends"])
        logger.info("books are closed", entries=len(entries))

    class EntryData(TypedDict):
        account: str
        amount: int

    @event_handler("ledger:add", priority=EventPriority.HIGH)
    async def add(data: EntryData, context: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        if "account" not in data:
            return error_response("account is missing", context)
        entries[data["account"]] = entries.get(data["account"], 0) + data["amount"]
        router = get_router()
        first = await router.emit_first("ledger:changed", dict(data), context)
        all_of_them = await router.emit("ledger:audit", {"account": data["account"]}, context)
        return success_response({"first": first, "all": all_of_them}, context)

    @event_handler("ledger:list")
    async def list_entries(data: Dict[str, Any]) -> Dict[str, Any]:
        return list_response(sorted(entries.items()), items_field="entries")

    @event_handler("ledger:life")
    async def tell_life(data: Dict[str, Any]) -> Any:
        return life

    @event_handler("checkpoint:collect")
    async def collect(data: Dict[str, Any], context: Optional[Dict[str, Any]] = None):
        return event_response_builder({"ledger_state": entries}, context)

    @event_handler("checkpoint:restore")
    async def restore(data: Dict[str, Any], context: Optional[Dict[str, Any]] = None):
        entries.update(data.get("ledger_state", {}))
        return event_response_builder({"status": "restored"}, context)

    @service_shutdown("ledger_service")
    async def close(data: Dict[str, Any], context: Optional[Dict[str, Any]] = None) -> None:
        life.append(["shutdown"])

    @shutdown_handler("ledger_service")
    async def save(data: Dict[str, Any]) -> None:
        life.append(["saved"])
        await get_router().acknowledge_shutdown("ledger_service")
""".replace(" NotRequired_ as NotRequired,", "")


OF_CONTEXTS = """
    from ksi_daemon.event_system import event_handler, emit_event, get_router, EventHandler
    from ksi.events import event_handler as of_ours

    seen = []
    _state = {}

    @event_handler("a:agent")
    async def agent(data):
        ksi_context = data.get("_ksi_context", {})
        return ksi_context.get("_agent_id") if ksi_context else None

    @event_handler("a:both")
    async def both(data, context=None):
        same = {key: data["_ksi_context"].get(key) == context.get(key) for key in context}
        return [sorted(data), [key for key in same if not same[key]]]

    @event_handler("a:ordinary")
    def ordinary(data):
        _state.update(data)
        return data["_ksi_context"]["_root_event_id"]

    @event_handler("a:on")
    async def on(data, context):
        data["more"] = 1
        await emit_event("b:c", data)
        await get_router().emit("b:d", {**data, "_ksi_context": "ctx_evt_1"}, context)

    @of_ours("a:ours")
    async def ours(data):
        return data

    async def later(data, context):
        return data["_ksi_context"]["_event_id"]
    get_router().register_handler("a:later", EventHandler(later, "a:later"))

    @event_handler("system:startup")
    async def startup(data): seen.append(data)
    @event_handler("a:seen")
    async def tell(data): return seen
    @event_handler("a:plain")
    async def plain(data): return data
"""


class Contexts(WorkerTest):
    def test_what_an_event_carries_has_the_context_in_it_as_in_ksi(self) -> None:
        host = self.live(OF_CONTEXTS, {"level": 1})
        more: Any = {"attributes": {"_agent_id": "me"}, "event": 42, "root": 41, "depth": 3}
        self.assertEqual(host.asked("agent", {}, **more), "me")
        self.assertEqual(host.asked("both", {"x": 1}, **more), [["_ksi_context", "x"], []])
        self.assertEqual(host.asked("ordinary", {"x": 1}, **more), "41")
        self.assertEqual(host.asked("later", {}, **more), "42")
        # Where there is no object, and where the module is none of KSI's, there is none.
        self.assertEqual(host.asked("plain", [1]), [1])
        self.assertEqual(host.asked("ours", {"x": 1}), {"x": 1})
        self.assertEqual(host.asked("tell"), [{"level": 1}])
        # It is no part of what is kept that would not come back.
        state = host.snapshot().json()["_state"]
        self.assertEqual((state["x"], state["_ksi_context"]["_agent_id"]), (1, "me"))

    def test_it_goes_on_as_the_parent_of_an_event_and_not_with_it(self) -> None:
        host = self.live(OF_CONTEXTS)
        number = host.call("on", {"x": 1})
        for _ in range(2):
            frame = host.until("EMIT")
            self.assertEqual((frame.emit().call, frame.emit().data), (number, {"x": 1, "more": 1}))
            host.report(frame, [])
        end = host.ends(number)
        self.assertEqual((end.kind, end.keeps), ("NO_REPLY", False))


class Services(WorkerTest):
    def service(self, **options: object) -> FakeHost:
        return self.live(SERVICE, {"books": "blue"}, **options)

    def test_a_service_starts_is_ready_and_runs_its_tasks(self) -> None:
        host = self.service()
        opening = host.until("EMIT")
        self.assertEqual((opening.emit().name, opening.emit().call), ("ledger:open", 0))
        life = host.asked("tell_life")
        self.assertEqual(life[0], ["startup", {"books": "blue"}])
        self.assertEqual(
            life[1], ["context", ["config", "emit_event", "event_router", "shutdown_event"]]
        )
        self.assertEqual(life[2], ["task begins"])
        self.assertIn("ledger_service starts", [line[3] for line in host.logs()])

    def test_it_is_ready_when_it_is_live_with_its_state_and_not_before(self) -> None:
        host = self.created(SERVICE, {"books": "blue"})
        # One that is refused does nothing of it.
        self.assertEqual(host.restore({"ledger_state": {"a": 5}}).kind, "NO_REPLY")
        self.assertEqual([it[0] for it in host.asked("tell_life")], ["startup", "context"])
        with host.together():
            host.put("LIVE", id=0)
            call = host.call("list_entries")
        opening = host.until("EMIT").emit()
        self.assertEqual((opening.name, opening.data), ("ledger:open", {"entries": 1}))
        self.assertEqual(host.until("REPLY", call).json()["count"], 1)

    def test_a_handler_of_the_begin_that_fails_is_told(self) -> None:
        host = self.live(
            """
            from ksi.events import event_handler
            ready = []
            @event_handler("system:ready")
            async def fails(data): raise OSError("no disk")
            @event_handler("system:ready")
            async def follows(data): ready.append(1)
            @event_handler("a:ready")
            async def tell(data): return ready
            """
        )
        self.assertEqual(host.asked("tell"), [1])
        told = [it[3] for it in host.logs() if it[1] == 1]
        self.assertEqual(len(told), 1)
        self.assertIn("fails of system:ready failed", told[0])
        self.assertIn("no disk", told[0])

    def test_what_goes_while_it_gets_ready_starts_nothing_more(self) -> None:
        host = self.live(
            """
            import asyncio
            from ksi.events import event_handler, emit_event
            @event_handler("system:ready")
            async def ready(data):
                await emit_event("a:begun")
                return {"tasks": [{"name": "x", "coroutine": emit_event("a:task")}]}
            """
        )
        frame = host.until("EMIT")
        number = host.put("DETACH")
        self.assertEqual(host.next().kind, "CANCEL")
        host.report(frame, [])
        host.until("NO_REPLY", number)
        self.assertEqual(host.shut_down(), 0)
        self.assertEqual([it.log()[3] for it in host.unasked if it.kind == "LOG"], [])

    def test_in_a_trial_nothing_is_started_that_runs_on(self) -> None:
        host = self.service(trial=True)
        self.assertEqual([it[0] for it in host.asked("tell_life")], ["startup", "context"])

    def test_its_handlers_answer_in_ksis_form(self) -> None:
        host = self.service()
        host.report(host.until("EMIT"), [])
        attributes = {"_agent_id": "agent-1", "_correlation_id": "c"}
        number = host.call("add", {"account": "a", "amount": 5}, attributes=attributes, event=42)
        changed = host.until("EMIT")
        self.assertEqual(changed.emit().call, number)
        host.report(changed, [{"n": 1}, {"n": 2}])
        host.report(host.until("EMIT"), [])
        reply = host.ends(number).json()
        self.assertEqual((reply["first"], reply["all"], reply["status"]), ({"n": 1}, [], "success"))
        self.assertEqual((reply["_agent_id"], reply["_event_id"]), ("agent-1", "42"))
        self.assertTrue(reply["_response_id"].startswith("resp_"))
        failed = host.asked("add", {})
        self.assertEqual((failed["status"], failed["error"]), ("failed", "account is missing"))
        listed = host.asked("list_entries")
        self.assertEqual((listed["entries"], listed["count"]), ([["a", 5]], 1))

    def test_checkpoints_are_snapshots(self) -> None:
        host = self.service()
        host.report(host.until("EMIT"), [])
        host.ends(host.call("add", {"account": "a", "amount": 5}))
        snapshot = host.snapshot().json()
        self.assertEqual(snapshot, {"ledger_state": {"a": 5}})
        new = self.service()
        new.report(new.until("EMIT"), [])
        self.assertEqual(new.restore(snapshot).kind, "NO_REPLY")
        self.assertEqual(new.asked("list_entries")["entries"], [["a", 5]])

    def test_its_end_is_that_of_its_instance(self) -> None:
        host = self.service()
        host.report(host.until("EMIT"), [])
        described = {it["name"]: it["subscriptions"] for it in host.description["handlers"]}
        self.assertEqual((described["close"], described["save"]), (["module:shutdown"],) * 2)
        self.assertNotIn("startup", described)
        self.assertNotIn("collect", described)
        for handler in ("close", "save"):
            host.asked(handler, {}, name="module:shutdown")
        self.assertEqual(host.ends(host.put("DETACH")).kind, "NO_REPLY")
        life = [it[0] for it in host.asked("tell_life")]
        self.assertEqual(life[-3:], ["shutdown", "saved", "task ends"])
        self.assertIn("books are closed entries=0", [line[3] for line in host.logs()])
        self.assertEqual(host.shut_down(), 0)

    def test_what_it_is_is_read_from_its_source(self) -> None:
        manifest = program.answer({"path": self.write(SERVICE)})["manifest"]
        self.assertTrue(manifest["handlers_complete"], manifest["unread"])
        host = self.opens(SERVICE)
        keys = ("name", "subscriptions", "priority", "timeout_ms", "blocking")
        told = [{key: it[key] for key in keys} for it in host.description["handlers"]]
        self.assertEqual(manifest["handlers"], told)
        self.assertEqual(manifest["state"], host.description["state"])
        self.assertEqual(manifest["emits"], ["ledger:audit", "ledger:changed", "ledger:open"])

    def test_a_start_that_fails_keeps_the_instance_from_being_made(self) -> None:
        host = self.opens(
            """
            from ksi_daemon.event_system import event_handler
            @event_handler("system:startup")
            async def startup(data):
                raise RuntimeError("no books")
            """
        )
        self.assertEqual(host.create().failure()[0], "RuntimeError")


class Participants(WorkerTest):
    def test_whoever_takes_part_in_checkpoints_is_part_of_the_state(self) -> None:
        source = """
            from ksi_common.checkpoint_participation import (
                CheckpointParticipant, checkpoint_participant,
            )
            from ksi_daemon.event_system import event_handler

            class Ledger(CheckpointParticipant):
                def __init__(self):
                    super().__init__("ledger")
                    self.entries = []
                def collect_checkpoint_data(self):
                    return self.entries
                def restore_from_checkpoint(self, data):
                    self.entries = data

            @checkpoint_participant("names")
            class Names:
                known = {}
                async def collect_checkpoint_data(self):
                    return self.known
                async def restore_from_checkpoint(self, data):
                    self.known = data

            ledger, names = Ledger(), Names()

            @event_handler("a:get")
            async def get(data):
                return [ledger.entries, names.known]
            """
        manifest = program.answer({"path": self.write(source)})["manifest"]
        self.assertFalse(manifest["handlers_complete"])
        host = self.live(source)
        self.assertEqual(host.description["state"], {"writes": [1], "restores": [1]})
        self.assertEqual(host.snapshot().json(), {"ledger_state": [], "names_state": {}})
        host.restore({"ledger_state": [1], "names_state": {"a": 2}})
        self.assertEqual(host.asked("get"), [[1], {"a": 2}])


class Imports(WorkerTest):
    def test_ksis_own_router_never_takes_handlers(self) -> None:
        self.write("", "ksi/ksi_daemon/__init__.py")
        self.write("raise RuntimeError('the real one')", "ksi/ksi_daemon/event_system.py")
        self.write("def helper(): return 'real'\n", "ksi/ksi_daemon/other.py")
        self.write("", "ksi/ksi_common/__init__.py")
        self.write("def get_bound_logger(*a, **k): return 'real'\n", "ksi/ksi_common/logging.py")
        host = self.live(
            """
            from ksi_common.logging import get_bound_logger
            from ksi_common.event_response_builder import success_response
            from ksi_daemon.event_system import event_handler
            from ksi_daemon import event_system
            from ksi_daemon.other import helper
            @event_handler("a:b")
            async def real(data):
                same = event_system.event_handler is event_handler
                return [get_bound_logger("x"), helper(), same]
            """,
            python={"path": [os.path.join(self.folder, "ksi")]},
        )
        self.assertEqual(host.asked("real"), ["real", "real", True])

    def test_what_is_not_here_of_ksi_is_named(self) -> None:
        message = self.refused("from ksi_daemon.core import context_manager\n")
        self.assertIn("imports ksi_daemon.core, a part of KSI that is not here", message)

    def test_a_plugin_may_be_run_without_these_names(self) -> None:
        message = self.refused("import ksi_daemon.event_system\n", python={"compat": False})
        self.assertIn("imports ksi_daemon", message)


class Routers(WorkerTest):
    MODULE = """
        import asyncio
        from ksi_daemon.event_system import (
            EventHandler, RateLimiter, background_task, event_handler, get_router, service_provider,
        )
        router = get_router()
        done = []

        @service_provider("clock")
        def clock():
            return "tick"

        @background_task("nothing")
        async def nothing(): ...

        @event_handler("a:service")
        async def service(data):
            return [router.get_service("clock"), router.get_service("other")]

        @event_handler("a:tasks")
        async def tasks(data):
            async def work(n):
                await asyncio.sleep(60)
            async def fails():
                raise ValueError("no work")
            await router.start_task("work", work, 1)
            await router.start_task("work", work(2))
            await router.start_task("fails", fails())
            await asyncio.sleep(0.01)
            names = sorted(router._tasks)
            await router.stop_all_tasks()
            return [names, sorted(router._tasks)]

        @event_handler("a:registers")
        async def registers(data):
            async def late(data, context): return "late"
            router.register_handler("b:late", EventHandler(late, "b:late"))

        @event_handler("a:transforms")
        async def transforms(data):
            router.register_transformer_from_yaml({"source": "a:b", "target": "c:d"})
            await asyncio.sleep(0.01)

        @event_handler("a:limited", filter_func=RateLimiter(2, 60))
        async def limited(data):
            return data
    """

    def test_services_are_the_modules_own(self) -> None:
        self.assertEqual(self.live(self.MODULE).asked("service"), ["tick", None])

    def test_tasks_run_in_the_background_and_tell_of_their_failure(self) -> None:
        host = self.live(self.MODULE)
        number = host.call("tasks")
        emit = host.until("EMIT").emit()
        self.assertEqual((emit.name, emit.how), ("task:error", 2))
        self.assertEqual(emit.data, {"task": "fails", "error": "no work"})
        self.assertEqual(host.ends(number).json(), [["work"], []])

    def test_a_handler_may_be_registered_at_run_time(self) -> None:
        host = self.live(self.MODULE)
        number = host.call("registers")
        host.until("SUBSCRIBE")
        host.until("NO_REPLY", number)
        self.assertEqual(host.asked(1 << 32, {}), "late")

    def test_transformers_are_asked_for_from_whoever_has_them(self) -> None:
        host = self.live(self.MODULE)
        host.call("transforms")
        emit = host.until("EMIT").emit()
        self.assertEqual(emit.name, "router:register_transformer")
        self.assertEqual(emit.data, {"transformer": {"source": "a:b", "target": "c:d"}})

    def test_a_filter_may_bound_how_often(self) -> None:
        host = self.live(self.MODULE)
        self.assertEqual([host.asked("limited", n) for n in range(3)], [0, 1, None])


if __name__ == "__main__":
    unittest.main()

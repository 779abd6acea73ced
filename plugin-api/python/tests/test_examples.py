"""The modules of ``examples/python`` in a worker."""

import os
import subprocess
import sys
import unittest

from ksi.describing import program

from . import SOURCES
from .host import FakeHost, WorkerTest

EXAMPLES = os.path.join(SOURCES, "..", "..", "..", "examples", "python")


@unittest.skipUnless(os.path.isdir(EXAMPLES), "the examples lie in the repository")
class Examples(WorkerTest):
    def example(self, name: str, config: object = None) -> FakeHost:
        host = self.host()
        path = os.path.join(EXAMPLES, f"{name}.py")
        answer = host.open(path)
        self.assertEqual(answer.kind, "OPENED", answer)
        self.assertEqual(host.create(config).kind, "CREATED")
        return host

    def test_counters_count_tell_and_go_along(self) -> None:
        host = self.example("counter")
        number = host.call("change", {"name": "visits", "by": 2})
        frame = host.until("EMIT")
        emit = frame.emit()
        self.assertEqual(
            (emit.name, emit.data), ("counter:changed", {"name": "visits", "value": 2})
        )
        host.report(frame, [])
        self.assertEqual(host.ends(number).json(), {"name": "visits", "value": 2})
        host.asked("change", {"name": "visits"})
        new = self.example("counter")
        new.restore(host.snapshot().json())
        self.assertEqual(new.asked("read", {"name": "visits"})["value"], 3)
        self.assertEqual(new.asked("read", {}), {"counters": {"visits": 3}})
        new.asked("change", {"name": "visits", "operation": "reset"})
        self.assertEqual(new.asked("read", {}), {"counters": {}})
        number = host.call("say_goodbye", {}, name="module:shutdown")
        frame = host.until("EMIT")
        self.assertEqual(frame.emit().data, {"counters": 1})
        host.report(frame, [])
        self.assertEqual(host.ends(number).kind, "NO_REPLY")
        self.assertEqual(host.shut_down(), 0)

    def test_a_digest_comes_as_an_event_of_its_request(self) -> None:
        host = self.example("digest", {"words": 2})
        number = host.call("request", {"text": "so it goes and so it goes so"})
        end = host.ends(number)
        self.assertEqual((end.json(), end.keeps), ({"number": 1, "status": "begun"}, True))
        frame = host.until("EMIT")
        emit = frame.emit()
        self.assertEqual((emit.call, emit.name), (number, "digest:result"))
        self.assertEqual(emit.data, {"number": 1, "digest": ["so", "it"]})
        host.report(frame, [])
        self.assertEqual(host.until("RELEASE").id, number)
        self.assertEqual(host.logs(), [(number, 3, "digest", "text 1 has 8 words")])
        self.assertEqual(host.asked("at_once", {"text": "a a b"}), {"digest": ["a", "b"]})

    def test_values_are_stored_told_and_go_along(self) -> None:
        host = self.example("state")
        where = {"namespace": "a", "key": "k"}
        number = host.call("update", {**where, "value": None})
        emit = host.until("EMIT").emit()
        self.assertEqual((emit.name, emit.data), ("state:changed", {**where, "value": None}))
        self.assertEqual(host.ends(number).json(), {"status": "set"})
        self.assertEqual(host.asked("get_value", where), {"value": None})
        self.assertEqual(host.snapshot().json(), {"namespaces": {"a": {"k": None}}})
        new = self.example("state")
        new.restore({"namespaces": {"a": {"k": 1}}})
        self.assertEqual(new.asked("update", {"operation": "list"}), {"namespaces": ["a"]})
        number = new.call("update", {**where, "operation": "delete"})
        self.assertEqual(new.until("EMIT").emit().data, {**where, "previous": 1})
        self.assertEqual(new.ends(number).json(), {"status": "deleted"})
        code, message = new.ends(new.call("update", {"operation": "get"})).failure()
        self.assertEqual(code, "KeyError")
        self.assertIn('the operation get needs a "namespace"', message)

    def test_what_they_are_is_read_from_their_source(self) -> None:
        kept = {"writes": [1], "restores": [1]}
        for name, state in (("counter", kept), ("digest", None), ("state", kept)):
            manifest = program.answer({"path": os.path.join(EXAMPLES, f"{name}.py")})["manifest"]
            self.assertTrue(manifest["handlers_complete"])
            self.assertEqual(manifest["state"], state)
            told = [it["name"] for it in self.example(name).description["handlers"]]
            self.assertEqual([it["name"] for it in manifest["handlers"]], told)

    def test_they_can_be_tried_without_a_host(self) -> None:
        test = (
            "import asyncio, counter\n"
            "from ksi.events import emit_event, event_handler\n"
            "heard = []\n"
            "@event_handler('counter:changed')\n"
            "async def hear(data, context): heard.append([data, context['_event_depth']])\n"
            "replies = asyncio.run(emit_event('counter:change', {'name': 'a'}))\n"
            "assert replies == [{'name': 'a', 'value': 1}], replies\n"
            "assert heard == [[{'name': 'a', 'value': 1}, 1]], heard\n"
        )
        environment = {"PYTHONPATH": os.pathsep.join((SOURCES, EXAMPLES))}
        subprocess.run([sys.executable, "-B", "-c", test], check=True, env=environment)


if __name__ == "__main__":
    unittest.main()

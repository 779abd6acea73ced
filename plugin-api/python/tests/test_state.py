"""What a module knows, over a replacement."""

import unittest

from .host import FakeHost, WorkerTest

GLOBALS = """
    from ksi.events import event_handler
    _state = {"a": 1}
    _list = [1]
    _number = 0
    same = [_state, _list]

    @event_handler("a:set")
    async def set_it(data):
        global _number
        _state.clear()
        _state.update(data)
        _list.append(len(_list))
        _number += 1

    @event_handler("a:get")
    async def get(data):
        return [_state, _list, _number, same[0] is _state and same[1] is _list]

    @event_handler("a:spoil")
    async def spoil(data):
        _state["deep"] = [{"x": {1, 2}}]

    @event_handler("a:number")
    async def number(data):
        _state["names"] = {5: "five"}

    @event_handler("a:pairs")
    async def pairs(data):
        _state["pair"] = (1, 2)
"""


class Globals(WorkerTest):
    def kept(self, **options: object) -> FakeHost:
        return self.live(GLOBALS, python={"keep": ["_state", "_list", "_number"]}, **options)

    def test_kept_globals_go_along_into_the_objects_that_are_there(self) -> None:
        host = self.kept()
        host.asked("set_it", {"b": [1, {"c": None}]})
        snapshot = host.snapshot()
        self.assertEqual(
            snapshot.json(), {"_state": {"b": [1, {"c": None}]}, "_list": [1, 1], "_number": 1}
        )
        new = self.kept()
        self.assertEqual(new.restore(snapshot.json()).kind, "NO_REPLY")
        self.assertEqual(new.asked("get"), [{"b": [1, {"c": None}]}, [1, 1], 1, True])

    def test_what_lies_in_kept_globals_stays_the_same_objects(self) -> None:
        source = """
            from ksi.events import event_handler
            _state = {"items": {"a": {"n": 1}}, "rows": [[0], {}], "was": [], "kind": {}}
            items, rows = _state["items"], _state["rows"]
            held = [_state, items, items["a"], rows, rows[0], _state["was"], _state["kind"]]
            twice = {}
            _both = [twice, twice]
            @event_handler("a:get")
            async def get(data):
                now = [_state, _state["items"], _state["items"]["a"], _state["rows"],
                       _state["rows"][0], _state.get("was"), _state["kind"]]
                same = [one is other for one, other in zip(held, now)]
                return [same, _state, items, rows, _both, _both[0] is _both[1], list(_state)]
            """
        python = {"keep": ["_state", "items", "_both"]}
        new = self.live(source, python=python)
        items = {"a": {"n": 2, "more": []}, "b": 1}
        state = {"kind": [1], "items": items, "rows": [[1, 2], 3, {}]}
        both = [{"x": 1}, {"y": 2}]
        restored = new.restore({"_state": state, "items": items, "_both": both})
        self.assertEqual(restored.kind, "NO_REPLY")
        same, *rest = new.asked("get")
        # What is not there any more, and what is of another type, is another object.
        self.assertEqual(same, [True] * 5 + [False, False])
        self.assertEqual(rest, [state, items, state["rows"], both, False, list(state)])

    def test_a_module_that_says_nothing_keeps_its_state(self) -> None:
        host = self.live(GLOBALS)
        self.assertEqual(host.description["keep"], ["_state"])
        self.assertEqual(host.snapshot().json(), {"_state": {"a": 1}})

    def test_what_no_longer_is_kept_is_left_out_and_told(self) -> None:
        host = self.live(GLOBALS)
        self.assertEqual(host.restore({"_state": {}, "_list": [9]}).kind, "NO_REPLY")
        self.assertEqual(host.asked("get")[:2], [{}, [1]])
        self.assertTrue(any("_list, which is not kept any more" in it[3] for it in host.logs()))

    def test_what_is_no_json_says_under_which_key(self) -> None:
        host = self.live(GLOBALS)
        host.asked("spoil")
        code, message = host.snapshot().failure()
        self.assertEqual(code, "state")
        self.assertIn("the state is no JSON: _state['deep'][0]['x'] is a set", message)
        self.assertIn("snapshot() and restore(data) in the module say what is to be kept", message)

    def test_a_key_that_would_come_back_as_a_text_is_no_json(self) -> None:
        host = self.live(GLOBALS)
        host.asked("number")
        _, message = host.snapshot().failure()
        self.assertIn("a key in _state['names'] is the int 5, and no text", message)

    def test_what_would_come_back_as_something_else_is_told_with_its_place(self) -> None:
        for expression, place, found, comes_back in (
            ("(1, 2)", "", "tuple", "list"),
            ("[[(1,)]]", "[0][0]", "tuple", "list"),
            ("Point(1, 2)", "", "Point", "list"),
            ("defaultdict(list)", "", "defaultdict", "dict"),
            ("Counter('a')", "", "Counter", "dict"),
            ("OrderedDict()", "", "OrderedDict", "dict"),
            ("Text('a')", "", "Text", "str"),
            ("Level.LOW", "", "Level", "int"),
            ("uuid.uuid4()", "", "UUID", ""),
            ("Color.RED", "", "Color", ""),
        ):
            words = f"is no JSON: _state['x']{place} is a {found}"
            if comes_back:
                words = f"does not come back as it is: _state['x']{place} is of the type {found}"
                words += f", and would come back as {comes_back}"
            with self.subTest(expression):
                host = self.live(
                    f"""
                    import enum, uuid
                    from collections import Counter, OrderedDict, defaultdict, namedtuple
                    Point = namedtuple("Point", "x y")
                    class Text(str): ...
                    class Level(enum.IntEnum):
                        LOW = 1
                    class Color(enum.Enum):
                        RED = "red"
                    _state = {{"x": {expression}}}
                    """
                )
                code, message = host.snapshot().failure()
                self.assertEqual(code, "state")
                self.assertIn(f"the state {words}", message)

    def test_numbers_of_any_length_come_back_as_they_are(self) -> None:
        state = {"large": 2**70 + 1, "deep": [{"least": -(2**63) - 1}]}
        for source in (
            f"_state = {state}\n",
            f"data = {state}\ndef snapshot(): return data\n"
            "def restore(new):\n    if new != data: raise ValueError(new)\n",
        ):
            host = self.live(source)
            snapshot = host.snapshot().json()
            self.assertEqual(snapshot.get("_state", snapshot), state)
            self.assertEqual(host.restore(snapshot).kind, "NO_REPLY")
            self.assertEqual(host.snapshot().json(), snapshot)

    def test_a_container_that_is_kept_itself_may_be_of_any_class(self) -> None:
        source = """
            from collections import OrderedDict, defaultdict
            from ksi.events import event_handler
            class Log(list): ...
            _state, _order, _log = defaultdict(list), OrderedDict(b=1, a=2), Log([1])
            @event_handler("a:use")
            async def use(data):
                _state["new"].append(1)
                _order.move_to_end("b")
                return [type(_log).__name__, list(_order), _state]
            """
        python = {"keep": ["_state", "_order", "_log"]}
        snapshot = self.live(source, python=python).snapshot().json()
        new = self.live(source, python=python)
        self.assertEqual(new.restore(snapshot).kind, "NO_REPLY")
        self.assertEqual(new.asked("use"), ["Log", ["a", "b"], {"new": [1]}])

    def test_what_functions_give_is_theirs_to_take(self) -> None:
        host = self.live(
            """
            from collections import defaultdict, namedtuple
            Point = namedtuple("Point", "x y")
            def snapshot(): return [(1, 2), Point(1, 2), defaultdict(list)]
            def restore(data): ...
            """
        )
        self.assertEqual(host.snapshot().json(), [[1, 2], [1, 2], {}])

    def test_a_snapshot_of_another_kind_changes_nothing(self) -> None:
        host = self.live(GLOBALS)
        _, message = host.restore({"_state": [1]}).failure()
        self.assertIn("_state is a dict in the module, and a list in the snapshot", message)
        self.assertEqual(host.asked("get")[0], {"a": 1})

    def test_reading_back_changes_nothing(self) -> None:
        host = self.live(GLOBALS)
        self.assertEqual(host.restore({"_state": {"z": 1}}, kind="READ_BACK").kind, "NO_REPLY")
        self.assertEqual(host.asked("get")[0], {"a": 1})
        for wrong in ([], {"_state": 5}):
            self.assertEqual(host.restore(wrong, kind="READ_BACK").kind, "FAILED")

    def test_a_global_that_is_not_there_is_named(self) -> None:
        message = self.refused("x = 1\n", python={"keep": ["_nothing"]})
        self.assertIn("the module has no global _nothing, which is named as one", message)

    def test_a_module_without_state_gives_none(self) -> None:
        host = self.live("x = 1\n")
        self.assertIsNone(host.description["state"])
        self.assertIn("keeps no state", host.snapshot().failure()[1])

    def test_a_state_beyond_the_limit_is_a_failure(self) -> None:
        host = self.live(GLOBALS, limits={"state": 10})
        code, message = host.snapshot().failure()
        self.assertEqual((code, message), ("state", "the state has 18 bytes, and 10 are allowed"))

    def test_a_large_state_goes_in_a_memory_file(self) -> None:
        host = self.live(GLOBALS)
        large = {f"key {number}": "x" * 1000 for number in range(400)}
        host.asked("set_it", large)
        snapshot = host.snapshot()
        self.assertTrue(snapshot.in_file)
        state = snapshot.json()
        self.assertEqual(state["_state"], large)
        new = self.live(GLOBALS)
        import json

        number = new.put_in_file("RESTORE", (1).to_bytes(4, "little"), json.dumps(state).encode())
        self.assertEqual(new.ends(number).kind, "NO_REPLY")
        self.assertEqual(new.asked("get")[0], large)


FUNCTIONS = """
    import asyncio
    from ksi.events import event_handler
    STATE_VERSION = 2
    orders = {}
    read = []

    async def snapshot():
        await asyncio.sleep(0)
        return [[k, v] for k, v in orders.items()]

    def restore(data, version):
        if version == 1:
            data = list(data.items())
        orders.update((int(k), v) for k, v in data)

    def read_back(data, version):
        read.append(version)
        [pair for pair in data]

    @event_handler("a:get")
    async def get(data):
        return [[[k, v] for k, v in orders.items()], read]

    @event_handler("a:set")
    async def set_it(data):
        orders[data] = data
"""


class Functions(WorkerTest):
    def test_functions_of_the_module_say_what_is_kept(self) -> None:
        host = self.live(FUNCTIONS)
        self.assertEqual(host.description["state"], {"writes": [2], "restores": [2, 1]})
        host.asked("set_it", 5)
        snapshot = host.snapshot(2)
        self.assertEqual(snapshot.json(), [[5, 5]])
        new = self.live(FUNCTIONS)
        self.assertEqual(new.restore(snapshot.json(), 2).kind, "NO_REPLY")
        self.assertEqual(new.asked("get")[0], [[5, 5]])

    def test_what_older_versions_have_written_is_restored(self) -> None:
        host = self.live(FUNCTIONS)
        self.assertEqual(host.restore({"7": "seven"}, 1).kind, "NO_REPLY")
        self.assertEqual(host.asked("get")[0], [[7, "seven"]])

    def test_another_version_is_refused_with_what_is_restored(self) -> None:
        host = self.live(FUNCTIONS)
        _, message = host.restore([], 3).failure()
        self.assertIn("the snapshot is of version 3, and this restores 2, 1", message)
        self.assertIn("of version 1 is asked for", host.snapshot(1).failure()[1])
        simple = self.live("STATE_VERSION = 2\ndef snapshot(): return 1\ndef restore(data): ...\n")
        self.assertEqual(simple.description["state"], {"writes": [2], "restores": [2]})

    def test_the_module_may_look_at_what_it_would_restore(self) -> None:
        host = self.live(FUNCTIONS)
        self.assertEqual(host.restore([[1, 1]], 2, kind="READ_BACK").kind, "NO_REPLY")
        self.assertEqual(host.restore(5, 2, kind="READ_BACK").failure()[0], "TypeError")
        self.assertEqual(host.asked("get"), [[], [2, 2]])

    def test_a_snapshot_may_be_nothing_and_is_cancelled_like_a_call(self) -> None:
        host = self.live(
            """
            import asyncio
            async def snapshot():
                await asyncio.sleep(60)
            def restore(data): ...
            """
        )
        number = host.put("SNAPSHOT", (1).to_bytes(4, "little"))
        host.ping()
        host.put("CANCEL", id=number)
        self.assertEqual(host.ends(number).failure()[0], "cancelled")
        host = self.live("def snapshot(): ...\ndef restore(data): ...\n")
        self.assertIsNone(host.snapshot().json())

    def test_a_function_that_fails_says_where(self) -> None:
        host = self.live("def snapshot(): return {}['x']\ndef restore(data): raise OSError(data)\n")
        self.assertEqual(host.snapshot().failure()[0], "KeyError")
        code, message = host.restore("gone").failure()
        self.assertEqual((code, message.split("\n")[0]), ("OSError", "OSError: gone"))


if __name__ == "__main__":
    unittest.main()

"""Plugins of pluggy in a worker: the order and the results are those of plain pluggy.

Each scenario is a folder of plugins that runs twice, in plain pluggy (``pluggy_plain.py``) and in a
worker, with the real library in both. Without it nothing is tried here, and the tests say so.
"""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import unittest
from collections.abc import Sequence
from typing import Any

from ksi.describing import program
from ksi.worker.event_names import read_event_names

from .host import FakeHost, WorkerTest, u32

HERE = os.path.dirname(os.path.abspath(__file__))
SAID = {"project": "eggs", "hookspecs": "eggspecs", "plugins": ["plugins"]}

SPECS = """
    import pluggy
    hookspec = pluggy.HookspecMarker("eggs")
    hookimpl = pluggy.HookimplMarker("eggs")
    calls = []

    @hookspec
    def all_of_them(x): "Everybody says something."

    @hookspec(firstresult=True)
    def first(x): ...

    @hookspec(historic=True)
    def remembered(x): ...

    @hookspec
    def two(x, y): ...

    @hookspec(firstresult=True)
    def order(): ...
"""
TRACE = """
    from eggspecs import hookimpl, calls
    @hookimpl(trylast=True)
    def order():
        found, calls[:] = list(calls), []
        return found
"""


def plugin(name: str, hook: str = "all_of_them", options: str = "", body: str = "") -> str:
    """An implementation that says that it was called, and gives its name."""
    body = body or f"return {name!r}"
    lines = textwrap.indent(textwrap.dedent(body), "    ")
    return (
        "from eggspecs import hookimpl, calls\n"
        f"@hookimpl({options})\n"
        f"def {hook}(x):\n"
        f"    calls.append({name!r})\n"
        f"{lines}\n"
    )


OLD_WRAPPER = """
outcome = yield
calls.append('after old')
outcome.force_result(['old', *outcome.get_result()])
"""
NEW_WRAPPER = "result = yield\ncalls.append('after new')\nreturn ['new', *result]"
PLAIN_CALL = [["all_of_them", {"x": 1}]]

#: Name, plugins by their files, calls, and what else the project says.
SCENARIOS: dict[str, tuple[dict[str, str], list[Any], dict[str, Any]]] = {
    "the last registered is called first": (
        {it: plugin(it) for it in "abc"},
        PLAIN_CALL,
        {},
    ),
    "tryfirst and trylast": (
        {
            "a": plugin("a", options="tryfirst=True"),
            "b": plugin("b", options="trylast=True"),
            "c": plugin("c"),
            "d": plugin("d", options="tryfirst=True"),
            "e": plugin("e", options="trylast=True"),
            "f": plugin("f"),
        },
        PLAIN_CALL,
        {},
    ),
    "wrappers old and new": (
        {
            "a": plugin("a"),
            "b": plugin("b", options="hookwrapper=True", body=OLD_WRAPPER),
            "c": plugin("c", options="wrapper=True", body=NEW_WRAPPER),
            "d": plugin("d", options="tryfirst=True"),
            "e": plugin("e", options="hookwrapper=True, trylast=True", body=OLD_WRAPPER),
            "f": plugin("f", options="wrapper=True, tryfirst=True", body=NEW_WRAPPER),
        },
        PLAIN_CALL,
        {},
    ),
    "the first result that is one": (
        {
            "a": plugin("a", "first"),
            "b": plugin("b", "first"),
            "c": plugin("c", "first", body="return None"),
            "d": plugin("d", "first", body="return 0 if x else None", options="trylast=True"),
        },
        [["first", {"x": 1}]],
        {},
    ),
    "no first result": (
        {"a": plugin("a", "first", body="return None")},
        [["first", {"x": 1}]],
        {},
    ),
    "the first result through wrappers": (
        {
            "a": plugin("a", "first"),
            "b": plugin("b", "first", options="wrapper=True", body="return [(yield), 'wrapped']"),
        },
        [["first", {"x": 1}]],
        {},
    ),
    "results that are none are left out": (
        {"a": plugin("a"), "b": plugin("b", body="return None"), "c": plugin("c")},
        PLAIN_CALL,
        {},
    ),
    "none within a result": (
        {
            "a": plugin("a", "first", body="return [1, None, 2]"),
            "b": plugin("b", body="return [None, 1]"),
            "c": plugin("c", options="wrapper=True", body="return [None, *(yield)]"),
        },
        [["first", {"x": 1}], *PLAIN_CALL],
        {},
    ),
    "historic": (
        {"a": plugin("a", "remembered"), "b": plugin("b", "remembered")},
        [["remembered", {"x": 1}], ["remembered", {"x": 2}]],
        {},
    ),
    "blocked names": (
        {it: plugin(it) for it in "abc"},
        PLAIN_CALL,
        {"block": ["b"]},
    ),
    "arguments that an implementation leaves out": (
        {
            "a": "from eggspecs import hookimpl\n@hookimpl\ndef two(x, y): return [x, y]\n",
            "b": "from eggspecs import hookimpl\n@hookimpl\ndef two(y): return y\n",
            "c": "from eggspecs import hookimpl\n@hookimpl\ndef two(): return 'nothing'\n",
        },
        [["two", {"x": {"deep": [1]}, "y": 2}]],
        {},
    ),
    "another name for an implementation": (
        {"a": plugin("a", "say_it", options="specname='all_of_them'"), "b": plugin("b")},
        PLAIN_CALL,
        {},
    ),
    "an error ends the call": (
        {
            "a": plugin("a"),
            "b": plugin("b", body="raise KeyError(x)"),
            "c": plugin("c"),
        },
        PLAIN_CALL,
        {},
    ),
    "a wrapper that turns an error into a result": (
        {
            "a": plugin("a", body="raise KeyError(x)"),
            "b": plugin(
                "b",
                options="wrapper=True",
                body="try:\n    return (yield)\nexcept KeyError:\n    return ['saved']",
            ),
        },
        PLAIN_CALL,
        {},
    ),
    "an old wrapper that raises": (
        {
            "a": plugin("a"),
            "b": plugin("b", options="hookwrapper=True", body="yield\nraise OSError()"),
        },
        PLAIN_CALL,
        {},
    ),
    "an argument that is missing": (
        {"a": "from eggspecs import hookimpl\n@hookimpl\ndef two(x, y): return [x, y]\n"},
        [["two", {"x": 1}]],
        {},
    ),
    "nobody": ({}, PLAIN_CALL + [["first", {"x": 1}]], {}),
}


class PluggyTest(WorkerTest):
    def setUp(self) -> None:
        super().setUp()
        if importlib.util.find_spec("pluggy") is None:
            self.skipTest("pluggy is not installed, so nothing of it is tried: pip install pluggy")

    def project(self, plugins: dict[str, str], specs: str = SPECS) -> str:
        self.write(specs, "eggs/eggspecs.py")
        os.makedirs(os.path.join(self.folder, "eggs", "plugins"), exist_ok=True)
        for name, source in plugins.items():
            self.write(source, f"eggs/plugins/{name}.py")
        return os.path.join(self.folder, "eggs")

    def pluggy(
        self,
        folder: str,
        said: dict[str, Any],
        config: Any = None,
        keep: Any = None,
        live: bool = True,
        path: Sequence[str] = (),
    ) -> FakeHost:
        host = self.host()
        path = path or [folder]
        python = {"kind": "pluggy", "pluggy": said, "path": path, "keep": keep}
        answer = host.open(folder, plugin="eggs", python=python)
        self.assertEqual(answer.kind, "OPENED", answer)
        created = host.create(config)
        self.assertEqual(created.kind, "CREATED", created)
        if live:
            host.put("LIVE", id=0)
        return host

    def end(self, host: FakeHost, hook: str, arguments: Any) -> Any:
        end = host.ends(host.call(hook, arguments, name=f"eggs:{hook}"))
        if end.kind == "FAILED":
            return ["error", end.failure()[0]]
        return ["result", end.json() if end.kind == "REPLY" else None]


class SideBySide(PluggyTest):
    def test_order_and_results_are_those_of_plain_pluggy(self) -> None:
        for name, (plugins, calls, more) in SCENARIOS.items():
            with self.subTest(name):
                calls = [*calls, ["order", {}]]
                folder = self.project({**plugins, "z_order": TRACE})
                said = {**SAID, **more}
                command = [sys.executable, "-B", os.path.join(HERE, "pluggy_plain.py")]
                command += [folder, json.dumps(said), json.dumps(calls)]
                plain = subprocess.run(command, capture_output=True, text=True)
                self.assertEqual(plain.returncode, 0, plain.stderr)
                host = self.pluggy(folder, said)
                found = [self.end(host, hook, arguments) for hook, arguments in calls]
                self.assertEqual(found, json.loads(plain.stdout))
                self.assertTrue(found[-1][1] or name in ("nobody", *_UNTRACED), name)
                host.close()
                for file in os.listdir(os.path.join(folder, "plugins")):
                    os.remove(os.path.join(folder, "plugins", file))


_UNTRACED = ("arguments that an implementation leaves out", "an argument that is missing")


HEARS = """
    from eggspecs import hookimpl, calls
    @hookimpl
    def remembered(x): calls.append(["remembered", {name!r}, x])
    @hookimpl(specname="also_remembered")
    def also(x, y): calls.append(["also", {name!r}, x, y]){raises}
"""


class Later(PluggyTest):
    """What was called before a plugin came, which comes with another version of them all."""

    SPECS = (
        SPECS
        + """
    @hookspec(historic=True)
    def also_remembered(x, y): ...
    def snapshot(): return []
    def restore(data): calls.append("restored")
    """
    )

    def hears(self, name: str, raises: str = "") -> str:
        return textwrap.dedent(HEARS.format(name=name, raises=raises))

    def another(
        self, host: FakeHost, folder: str, said: dict[str, Any], live: bool = True
    ) -> FakeHost:
        """A host with the state of another one."""
        snapshot = host.snapshot().json()
        host.close()
        new = self.pluggy(folder, said, live=False)
        self.assertEqual(new.restore(snapshot).kind, "NO_REPLY")
        if live:
            new.put("LIVE", id=0)
        return new

    def test_a_plugin_that_comes_later_hears_what_it_hears_in_plain_pluggy(self) -> None:
        calls: list[Any] = [
            ["remembered", {"x": 1}],
            ["also_remembered", {"x": 2, "y": {"deep": [None]}}],
            ["remembered", {"x": 3}],
            ["order", {}],
            ["later", {}],
            ["order", {}],
            ["remembered", {"x": 4}],
            ["order", {}],
        ]
        plugins = {"a": self.hears("a"), "b": self.hears("b"), "late": self.hears("late")}
        folder = self.project({**plugins, "z_order": TRACE}, self.SPECS)
        said = {**SAID, "later": ["late"]}
        command = [sys.executable, "-B", os.path.join(HERE, "pluggy_plain.py")]
        command += [folder, json.dumps(said), json.dumps(calls)]
        plain = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(plain.returncode, 0, plain.stderr)
        file = os.path.join(folder, "plugins", "late.py")
        with open(file) as opened:
            late = opened.read()
        os.remove(file)
        host, found = self.pluggy(folder, SAID), []
        for hook, arguments in calls:
            if hook != "later":
                found.append(self.end(host, hook, arguments))
                continue
            self.write(late, "eggs/plugins/late.py")
            host = self.another(host, folder, SAID)
        expected = json.loads(plain.stdout)
        self.assertEqual(len(expected[4][1]), 3)
        self.assertEqual(found, expected)

    def test_it_is_told_once_by_a_version_that_is_live_and_with_its_state(self) -> None:
        folder = self.project({"a": self.hears("a"), "z_order": TRACE}, self.SPECS)
        said = {**SAID, "state": "eggspecs"}
        host = self.pluggy(folder, said)
        host.asked("remembered", {"x": 1})
        self.write(self.hears("b"), "eggs/plugins/b.py")
        host = self.another(host, folder, said, live=False)
        self.assertEqual(host.asked("order", {}), ["restored"])
        with host.together():
            host.put("LIVE", id=0)
            number = host.call("order", {})
        self.assertEqual(host.until("REPLY", number).json(), [["remembered", "b", 1]])
        host = self.another(host, folder, said)
        self.assertEqual(host.asked("order", {}), ["restored"])

    def test_what_fails_then_is_told_and_coroutines_are_awaited(self) -> None:
        folder = self.project({"z_order": TRACE}, self.SPECS)
        host = self.pluggy(folder, SAID)
        host.asked("also_remembered", {"x": 1, "y": 2})
        host.asked("also_remembered", {"x": 3})
        host.asked("remembered", {"x": 5})
        self.write(self.hears("b", "; raise OSError('no')"), "eggs/plugins/b.py")
        late = "from eggspecs import hookimpl\nfrom ksi.events import emit_event\n@hookimpl\n"
        late += "async def remembered(x): await emit_event('c:heard', x)\n"
        self.write(late, "eggs/plugins/c.py")
        host = self.another(host, folder, SAID)
        frame = host.until("EMIT")
        self.assertEqual((frame.emit().name, frame.emit().data), ("c:heard", 5))
        host.report(frame, [])
        expected = [["also", "b", 1, 2], ["remembered", "b", 5]]
        self.assertEqual(host.asked("order", {}), expected)
        told = [it[3].split("\n")[0] for it in host.logs() if it[1] == 1]
        words = "plugin b, hook also_remembered failed for a call that was made before it came: "
        self.assertEqual(told, [words + "OSError: no", words + "KeyError: 'y'"])

    def test_calls_of_hooks_that_are_not_historic_any_more_are_left_out(self) -> None:
        folder = self.project({"z_order": TRACE}, self.SPECS)
        said = {**SAID, "state": "eggspecs"}
        host = self.pluggy(folder, said)
        host.asked("remembered", {"x": 1})
        self.write(self.SPECS.replace("(historic=True)\n    def remem", "\n    def remem"),
                   "eggs/eggspecs.py")  # fmt: skip
        self.write(self.hears("b"), "eggs/plugins/b.py")
        host = self.another(host, folder, said)
        self.assertEqual(host.asked("order", {}), ["restored"])
        self.write(self.SPECS.replace("(historic=True)", ""), "eggs/eggspecs.py")
        host = self.another(host, folder, said)
        self.assertEqual(host.asked("order", {}), ["restored"])
        self.assertEqual(host.snapshot().json(), [])
        # Nor is it lost that what was kept before was the state of the module alone.
        self.write(self.SPECS, "eggs/eggspecs.py")
        host = self.another(host, folder, said)
        self.assertEqual(host.asked("order", {}), ["restored"])
        code, message = host.restore({"ksi_pluggy_history": {"calls": 5}}).failure()
        self.assertEqual(code, "state")
        self.assertIn("the calls of historic hooks cannot be read", message)

    def test_what_is_kept_is_bounded_and_nothing_that_plugins_make_of_it(self) -> None:
        folder = self.project({"a": self.hears("a", "; y.append({1})")}, self.SPECS)
        host = self.host()
        python = {"kind": "pluggy", "pluggy": SAID, "path": [folder]}
        host.open(folder, plugin="eggs", python=python, limits={"state": 1000})
        host.create()
        for x in range(40):
            host.asked("also_remembered", {"x": x, "y": [x]})
            host.asked("remembered", {"x": "y" * 30})
        end = host.snapshot()
        self.assertLess(len(end.payload()), 1000)
        calls = end.json()["ksi_pluggy_history"]["calls"]
        self.assertEqual(calls[-2:], [
            ["also_remembered", {"x": 39, "y": [39]}], ["remembered", {"x": "y" * 30}]
        ])  # fmt: skip
        self.assertGreater(len(calls), 10)
        told = [it[3] for it in host.logs() if "are forgotten" in it[3]]
        self.assertEqual(len(told), 1)
        self.assertIn(f"{80 - len(calls)} of 80 remembered calls", told[0])


class Hooks(PluggyTest):
    def test_each_hook_is_an_event_with_its_arguments_as_fields(self) -> None:
        host = self.pluggy(self.project({"a": plugin("a")}), SAID)
        described = {it["name"]: it for it in host.description["handlers"]}
        self.assertEqual(described["two"]["subscriptions"], ["eggs:two"])
        self.assertEqual(described["two"]["payload"]["required"], ["x", "y"])
        self.assertEqual(described["all_of_them"]["summary"], "Everybody says something.")
        code, message = host.ends(host.call("two", [1])).failure()
        self.assertEqual(code, "arguments")
        self.assertIn("the arguments of two are fields of an object", message)

    def test_a_table_says_which_events_are_calls_of_which_hook(self) -> None:
        said = {**SAID, "events": {"kitchen:a": "all_of_them", "kitchen:b": "all_of_them"}}
        host = self.pluggy(self.project({"a": plugin("a")}), said)
        described = {it["name"]: it["subscriptions"] for it in host.description["handlers"]}
        self.assertEqual(described["all_of_them"], ["kitchen:a", "kitchen:b"])
        self.assertEqual(described["two"], ["eggs:two"])
        self.assertEqual(host.asked("all_of_them", {"x": 1}, name="kitchen:b"), ["a"])

    def test_an_error_names_the_plugin_and_the_hook(self) -> None:
        plugins = {
            "a": plugin("a", body="raise KeyError(x)"),
            "b": plugin("b", options="wrapper=True", body="return (yield)"),
        }
        host = self.pluggy(self.project(plugins), SAID)
        code, message = host.ends(host.call("all_of_them", {"x": 1})).failure()
        self.assertEqual(code, "KeyError")
        self.assertEqual(message.split("\n")[0], "plugin a, hook all_of_them: KeyError: 1")
        self.assertIn("plugins/a.py, line 5, in all_of_them: raise KeyError(x)", message)

    def test_an_error_of_a_wrapper_names_that(self) -> None:
        plugins = {
            "a": plugin("a"),
            "b": plugin("b", options="wrapper=True", body="yield\nraise OSError('late')"),
        }
        host = self.pluggy(self.project(plugins), SAID)
        message = host.ends(host.call("all_of_them", {"x": 1})).failure()[1]
        self.assertTrue(message.startswith("plugin b, hook all_of_them: OSError: late"), message)

    def test_a_result_that_is_no_json_names_the_plugin_and_the_hook(self) -> None:
        plugins = {
            "a": plugin("a"),
            "b": plugin("b", body="return {'x': [1, {2}]}"),
            "c": plugin("c", body="return None"),
        }
        host = self.pluggy(self.project(plugins), SAID)
        code, message = host.ends(host.call("all_of_them", {"x": 1})).failure()
        self.assertEqual(code, "not_json")
        expected = "plugin b, hook all_of_them: its result is no JSON: ['x'][1] is a set"
        self.assertEqual(message, expected)

    def test_coroutines_among_the_results_are_awaited(self) -> None:
        plugins = {
            "a": plugin("a"),
            "b": (
                "from eggspecs import hookimpl\nfrom ksi.events import emit_event\n"
                "@hookimpl\nasync def all_of_them(x):\n    return await emit_event('b:c', x)\n"
            ),
            "c": "from eggspecs import hookimpl\n@hookimpl\nasync def first(x): raise OSError(x)\n",
        }
        host = self.pluggy(self.project(plugins), SAID)
        number = host.call("all_of_them", {"x": 5})
        frame = host.until("EMIT")
        self.assertEqual((frame.emit().call, frame.emit().data), (number, 5))
        host.report(frame, ["answer"])
        self.assertEqual(host.ends(number).json(), [["answer"], "a"])
        message = host.ends(host.call("first", {"x": 5})).failure()[1]
        self.assertTrue(message.startswith("plugin c, hook first: OSError: 5"), message)

    def test_a_result_of_a_wrapper_that_is_no_json_names_its_plugin(self) -> None:
        forced = "outcome = yield\noutcome.force_result([*outcome.get_result(), {1}])"
        cases = {
            "new": ("wrapper=True", "yield\nreturn {1, 2}", "the value itself"),
            "new among others": ("wrapper=True", "return [*(yield), [{1}]]", "[0]"),
            "old": ("hookwrapper=True", forced, "the value itself"),
            "an error": (
                "wrapper=True",
                "try:\n    yield\nexcept KeyError:\n    return {1}",
                "the value itself",
            ),
        }
        around = plugin("z", options="wrapper=True, tryfirst=True", body="return (yield)")
        for name, (options, body, place) in cases.items():
            with self.subTest(name):
                a = plugin("a", body="raise KeyError(x)" if name == "an error" else "return x")
                plugins = {"a": a, "b": plugin("b", options=options, body=body), "z": around}
                host = self.pluggy(self.project(plugins), SAID)
                code, message = host.ends(host.call("all_of_them", {"x": 1})).failure()
                expected = f"plugin b, hook all_of_them: its result is no JSON: {place} is a set"
                self.assertEqual((code, message), ("not_json", expected))
        body = "yield\nreturn {3}"
        plugins = {"a": plugin("a", "first"), "b": plugin("b", "first", "wrapper=True", body)}
        host = self.pluggy(self.project(plugins), SAID)
        message = host.ends(host.call("first", {"x": 1})).failure()[1]
        self.assertIn("plugin b, hook first: its result is no JSON", message)

    def test_a_wrapper_that_yields_too_often_or_never_is_told_as_by_pluggy(self) -> None:
        for body, words in (("yield\nyield", "has second yield"), ("if x == 5: yield", "")):
            for options in ("wrapper=True", "hookwrapper=True"):
                plugins = {"a": plugin("a"), "b": plugin("b", options=options, body=body)}
                host = self.pluggy(self.project(plugins), SAID)
                code, message = host.ends(host.call("all_of_them", {"x": 1})).failure()
                self.assertEqual(code, "RuntimeError")
                self.assertIn("wrap_controller at 'all_of_them' ", message)
                self.assertIn("plugins/b.py:2 ", message)
                self.assertIn(words or "did not yield", message)

    def test_a_coroutine_that_gives_none_gives_no_result(self) -> None:
        awaited = "from eggspecs import hookimpl\n@hookimpl\nasync def all_of_them(x): ...\n"
        awaited += "async def none(): ...\n@hookimpl\ndef first(x): return [none(), None, x]\n"
        wrapper = plugin("b", options="wrapper=True", body="return [None, *(yield)]")
        host = self.pluggy(self.project({"a": awaited, "b": wrapper, "c": plugin("c")}), SAID)
        self.assertEqual(host.asked("all_of_them", {"x": 1}), [None, "c"])
        # What stands in the one result of an implementation is its own.
        self.assertEqual(host.asked("first", {"x": 1}), [None, None, 1])

    def test_a_manager_that_is_complete_may_be_named(self) -> None:
        specs = (
            SPECS
            + """
    class Own:
        @hookimpl
        def all_of_them(self, x):
            return "own"
    def get_manager():
        import sys
        manager = pluggy.PluginManager("eggs")
        manager.add_hookspecs(sys.modules[__name__])
        manager.register(Own(), "own")
        return manager
    """
        )
        folder = self.project({"a": plugin("a")}, specs)
        host = self.pluggy(folder, {"manager": "eggspecs:get_manager", "plugins": ["plugins"]})
        self.assertEqual(host.asked("all_of_them", {"x": 1}), ["a", "own"])

    def test_handlers_that_plugins_declare_beside_their_hooks_are_called(self) -> None:
        source = (
            "from eggspecs import hookimpl\nfrom ksi.events import event_handler\n"
            "@hookimpl\ndef first(x): return x\n"
            "@event_handler('kitchen:open')\nasync def first(data): return ['open', data]\n"
        )
        host = self.pluggy(self.project({"a": source}), SAID)
        described = {it["name"]: it["subscriptions"] for it in host.description["handlers"]}
        self.assertEqual(described["first_2"], ["kitchen:open"])
        self.assertEqual(host.asked("first_2", 1), ["open", 1])

    def test_one_name_is_as_good_as_a_list_of_one(self) -> None:
        plugins = {"one": plugin("one"), "two": plugin("two")}
        host = self.pluggy(self.project(plugins), {**SAID, "plugins": "plugins", "block": "one"})
        self.assertEqual(host.asked("all_of_them", {"x": 1}), ["two"])

    def test_folders_of_plugins_are_read_with_all_that_is_below(self) -> None:
        folder = self.project({"a": plugin("a"), "shared": "SEEN = []\n"})
        at = "eggs/plugins"
        self.write(plugin("core a"), f"{at}/core/a.py")
        self.write(plugin("deep"), f"{at}/core/deep/b.py")
        self.write(plugin("blocked"), f"{at}/core/c.py")
        self.write("import plugins.core.used\n" + plugin("user"), f"{at}/core/b.py")
        self.write("import plugins.shared as it\nit.SEEN.append(1)\n", f"{at}/core/used.py")
        for left in ("_not/a", ".hidden/a", "core/_a", "core/__init__", "__pycache__/a"):
            self.write("raise OSError\n" if "init" not in left else "", f"{at}/{left}.py")
        os.symlink(os.path.join(folder, "plugins"), os.path.join(folder, "plugins", "core", "up"))
        source = "import plugins.shared as it\nfrom eggspecs import hookimpl\n"
        self.write(source + "@hookimpl\ndef first(x): return it.SEEN\n", f"{at}/z.py")
        host = self.pluggy(folder, {**SAID, "block": "core.c"})
        # What is registered last is called first: folders come behind the files beside them.
        expected = ["deep", "user", "core a", "a"]
        self.assertEqual(host.asked("all_of_them", {"x": 1}), expected)
        self.assertEqual(host.asked("first", {"x": 1}), [1])

    def test_plugins_of_installed_packages_are_found_by_their_entry_points(self) -> None:
        folder = self.project({"a": plugin("a")})
        for name in ("first", "second"):
            self.write(plugin(name), f"packages/from_{name}.py")
            self.write(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
                       f"packages/{name}-1.0.dist-info/METADATA")  # fmt: skip
            points = f"[eggs]\nof_{name} = from_{name}\n[others]\nother = nothing_there\n"
            self.write(points, f"packages/{name}-1.0.dist-info/entry_points.txt")
        path = [folder, os.path.join(self.folder, "packages")]
        said = {**SAID, "entry_points": "eggs"}
        # They are registered behind the project's own, and what is registered last comes first.
        host = self.pluggy(folder, said, path=path)
        names = host.asked("all_of_them", {"x": 1})
        self.assertEqual((sorted(names[:2]), names[2:]), (["first", "second"], ["a"]))
        host = self.pluggy(folder, {**said, "block": "of_second"}, path=path)
        self.assertEqual(host.asked("all_of_them", {"x": 1}), ["first", "a"])
        # One of a group that nobody has is no plugin, and one that cannot be imported is told.
        host = self.pluggy(folder, {**said, "entry_points": ["nobody"]}, path=path)
        self.assertEqual(host.asked("all_of_them", {"x": 1}), ["a"])
        host = self.host()
        said["entry_points"] = "others"
        python = {"kind": "pluggy", "pluggy": said, "path": path}
        _, message = host.open(folder, plugin="eggs", python=python).failure()
        self.assertIn("imports nothing_there", message)

    def test_a_state_is_that_of_a_module(self) -> None:
        specs = SPECS + "    def snapshot(): return calls\n    def restore(data): calls[:] = data\n"
        host = self.pluggy(self.project({"a": plugin("a")}, specs), {**SAID, "state": "eggspecs"})
        host.asked("all_of_them", {"x": 1})
        self.assertEqual(host.snapshot().json(), ["a"])
        self.assertEqual(host.description["state"], {"writes": [1], "restores": [1]})

    def test_a_state_may_be_globals_of_a_module(self) -> None:
        specs = SPECS + "    _state = {'a': 1}\n    other = [1]\n"
        folder = self.project({"a": plugin("a")}, specs)
        for keep, state in ((None, {"_state": {"a": 1}}), (["other"], {"other": [1]})):
            host = self.pluggy(folder, {**SAID, "state": "eggspecs"}, keep=keep)
            self.assertEqual(host.snapshot().json(), state)
        host = self.host()
        python = {"kind": "pluggy", "pluggy": SAID, "path": [folder], "keep": ["other"]}
        _, message = host.open(folder, plugin="eggs", python=python).failure()
        self.assertIn("`keep` names globals of the module that `state` names, and none is", message)

    def test_what_is_wrong_with_the_project_is_told(self) -> None:
        folder = self.project({"a": plugin("a")})
        for more, words in (
            ({"hookspecs": "nothing_at_all"}, "imports nothing_at_all"),
            ({"events": {"a:b": "no_hook"}}, "has the hook no_hook"),
            ({"manager": "eggspecs:hookspec"}, "gives a function, no PluginManager"),
            ({"manager": "eggspecs:nothing"}, "eggspecs has no nothing"),
        ):
            host = self.host()
            python = {"kind": "pluggy", "pluggy": {**SAID, **more}, "path": [folder]}
            _, message = host.open(folder, plugin="eggs", python=python).failure()
            self.assertIn(words, message)

    @unittest.skipIf(sys.version_info < (3, 11), "this Python has no reader of TOML")
    def test_what_it_is_is_said_by_the_project(self) -> None:
        folder = self.project({"a": plugin("a")})
        toml = '[project]\nname = "eggs"\n[tool.ksi]\nkind = "pluggy"\n[tool.ksi.pluggy]\n'
        toml += 'project = "eggs"\nhookspecs = "eggspecs"\nplugins = ["plugins"]\n'
        self.write(toml, "eggs/pyproject.toml")
        manifest = program.answer({"path": folder, "name": "eggs"})["manifest"]
        self.assertFalse(manifest["handlers_complete"])
        self.assertEqual((manifest["kind"], manifest["pluggy"]), ("pluggy", SAID))


ON_A_THREAD = """
    import asyncio, threading
    from eggspecs import hookimpl
    from ksi.events import emit_event

    threads = {threading.current_thread().name}
    begun = []

    @hookimpl
    def all_of_them(x):
        threads.add(threading.current_thread().name)
        begun.append(x)
        if isinstance(x, str):
            with open(x) as file:
                return file.read()
        return x

    @hookimpl
    async def first(x):
        return await emit_event("b:c", x)

    @hookimpl
    def two(x, y):
        return asyncio.run(emit_event("b:c", x))

    @hookimpl
    def order():
        return [begun, len(threads), threading.main_thread().name in threads]

    @hookimpl(optionalhook=True)
    def stops(x):
        raise StopIteration

    def snapshot():
        threads.add(threading.current_thread().name)
        return 1

    def restore(data):
        threads.add(threading.current_thread().name)
"""


class OnAThread(PluggyTest):
    def eggs(self) -> FakeHost:
        said = {**SAID, "plugins": ["threaded"], "state": "threaded"}
        folder = self.project({})
        self.write(ON_A_THREAD, "eggs/threaded.py")
        return self.pluggy(folder, said)

    def test_a_hook_that_blocks_holds_up_no_coroutine(self) -> None:
        host = self.eggs()
        awaits = host.call("first", {"x": 1})
        frame = host.until("EMIT")
        pipe = os.path.join(self.folder, "pipe")
        os.mkfifo(pipe)
        blocks = host.call("all_of_them", {"x": pipe})
        host.ping()
        host.report(frame, ["reply"])
        self.assertEqual(host.until("REPLY", awaits, timeout=3).json(), ["reply"])
        with open(pipe, "w") as file:
            file.write("read")
        self.assertEqual(host.ends(blocks).json(), ["read"])

    def test_hooks_run_in_the_order_in_which_they_are_called_on_one_thread(self) -> None:
        host = self.eggs()
        with host.together():
            for x in range(50):
                host.call("all_of_them", {"x": x})
            number = host.call("order", {})
            snapshot = host.put("SNAPSHOT", u32(1))
            restore = host.put("RESTORE", u32(1), b"1")
        self.assertEqual(host.until("REPLY", snapshot).json(), 1)
        host.until("NO_REPLY", restore)
        begun, threads, on_main = host.until("REPLY", number).json()
        self.assertEqual(begun, list(range(50)))
        self.assertEqual((threads, on_main), (1, False))
        number = host.call("order", {})
        self.assertEqual(host.until("REPLY", number).json()[1], 1)

    def test_an_error_of_a_hook_is_what_it_is_and_keeps_nothing(self) -> None:
        host = self.eggs()
        for _ in range(20):
            end = host.ends(host.call("all_of_them", {"x": "/no/such/file"}))
            self.assertEqual(end.failure()[0], "FileNotFoundError")
            self.assertFalse(end.keeps)
        code, message = host.ends(host.call("stops", {"x": 1})).failure()
        self.assertEqual(code, "StopIteration")
        self.assertIn("plugin threaded, hook stops: StopIteration", message)

    def test_a_hook_emits_with_a_loop_of_its_own(self) -> None:
        host = self.eggs()
        number = host.call("two", {"x": 1, "y": 2})
        frame = host.until("EMIT")
        self.assertEqual((frame.emit().call, frame.emit().data), (number, 1))
        host.report(frame, [5])
        self.assertEqual(host.ends(number).json(), [[5]])

    def test_a_call_that_nobody_awaits_any_more_is_not_begun(self) -> None:
        host = self.eggs()
        pipe = os.path.join(self.folder, "pipe")
        os.mkfifo(pipe)
        blocks, waits = (host.call("all_of_them", {"x": x}) for x in (pipe, 7))
        host.put("CANCEL", id=waits)
        self.assertEqual(host.until("FAILED", waits).failure()[0], "cancelled")
        # Opened when the hook has, so that it has begun.
        with open(pipe, "w") as file:
            host.put("CANCEL", id=blocks)
            host.ping()
            # A thread cannot be ended: the call is over when it is.
            self.assertTrue(host.unended(blocks))
            file.write("read")
        self.assertEqual(host.until("FAILED", blocks).failure()[0], "cancelled")
        self.assertEqual(host.asked("order", {})[0], [pipe])


class Manager(PluggyTest):
    """What pluggy itself allows beyond specifications."""

    SPECS = (
        SPECS
        + """
    manager = None
    class Late:
        heard = []
        @hookimpl
        def remembered(self, x): self.heard.append(x if isinstance(x, int) else len(x))
    class Own:
        @hookimpl
        def all_of_them(self, x):
            if x == "late":
                manager.register(Late())
                return Late.heard
    def get_manager():
        import sys
        global manager
        manager = pluggy.PluginManager("eggs")
        manager.add_hookspecs(sys.modules[__name__])
        manager.register(Own())
        return manager
    """
    )

    def test_what_a_historic_hook_remembers_is_bounded(self) -> None:
        folder = self.project({}, self.SPECS)
        for payloads, expected in (
            (list(range(1500)), list(range(476, 1500))),
            (["x" * (3 << 20)] * 8, [3 << 20] * 5),
        ):
            host = self.pluggy(folder, {"manager": "eggspecs:get_manager"})
            for payload in payloads:
                host.asked("remembered", {"x": payload})
            self.assertEqual(host.asked("all_of_them", {"x": "late"}), [expected])

    def test_hooks_need_no_specification_where_there_is_none(self) -> None:
        source = (
            "import pluggy\nhookimpl = pluggy.HookimplMarker('eggs')\n"
            "@hookimpl\ndef anything(x, context): return [x, context['event']]\n"
            "@hookimpl(specname='other')\ndef another(): return 1\n"
        )
        folder = self.project({"a": source})
        host = self.pluggy(folder, {"project": "eggs", "plugins": ["plugins"]})
        answer = host.asked("anything", {"x": 1}, name="eggs:anything")
        self.assertEqual(answer, [[1, "eggs:anything"]])
        self.assertEqual(host.asked("other", {}), [1])
        host = self.host()
        python = {"kind": "pluggy", "pluggy": SAID, "path": [folder]}
        _, message = host.open(folder, plugin="eggs", python=python).failure()
        self.assertIn("PluginValidationError: unknown hook '", message)
        self.assertNotIn("concurrent", message)


KSI_SPECS = """
    import pluggy
    hookspec = pluggy.HookspecMarker("ksi")
    hookimpl = pluggy.HookimplMarker("ksi")
    life = []
    @hookspec
    def ksi_startup(config): ...
    @hookspec
    def ksi_plugin_context(context): ...
    @hookspec
    def ksi_ready(): ...
    @hookspec
    def ksi_handle_event(event_name, data, context): ...
    @hookspec
    def ksi_shutdown(): ...
"""
HEALTH = """
    from eggspecs import hookimpl, life
    emit = None
    HANDLERS = {"health:table": lambda data: "from a table"}
    @hookimpl
    def ksi_startup(config):
        life.append(["startup", config])
        return {"status": "ready"}
    @hookimpl
    async def ksi_plugin_context(context):
        global emit
        emit = context["emit_event"]
    @hookimpl
    def ksi_ready():
        return {"service": "health", "tasks": [{"name": "beat", "coroutine": beat()}]}
    async def beat():
        await emit("health:beat", {})
    @hookimpl
    def ksi_handle_event(event_name, data, context):
        if event_name == "system:health":
            return {"status": "healthy", "agent": context.get("_agent_id")}
        if event_name in ("health:life", "health:lives"):
            return life
        if event_name.startswith("health:sub:"):
            return event_name
        if event_name in HANDLERS:
            return HANDLERS[event_name](data)
        if event_name == configured():
            return "configured"
    def configured():
        return ":".join(("not", "read"))
    @hookimpl
    def ksi_shutdown():
        life.append(["shutdown"])
"""
FAILING = """
    from eggspecs import hookimpl, life
    @hookimpl
    def ksi_ready():
        life.append(["failing is ready"])
        raise OSError("no")
"""
OTHER = """
    from eggspecs import hookimpl
    @hookimpl
    def ksi_handle_event(event_name, data, context):
        if event_name == "system:health":
            async def answer():
                return {"other": data}
            return answer()
"""


class OfKsi(PluggyTest):
    def ksi(self) -> FakeHost:
        folder = self.project({"health": HEALTH, "other": OTHER}, KSI_SPECS)
        said = {**SAID, "project": "ksi", "event_names": ["not:read"]}
        return self.pluggy(folder, said, {"level": 1})

    def test_its_events_are_read_from_the_source_or_configured(self) -> None:
        host = self.ksi()
        described = {it["name"]: it["subscriptions"] for it in host.description["handlers"]}
        expected = ["health:life", "health:lives", "health:sub:**", "health:table"]
        expected += ["not:read", "system:health"]
        self.assertEqual(described["ksi_handle_event"], expected)
        self.assertEqual(described["ksi_shutdown"], ["module:shutdown"])
        self.assertNotIn("ksi_startup", described)

    def test_events_that_cannot_be_read_from_the_source_are_told(self) -> None:
        table = (
            "from eggspecs import hookimpl\nHANDLERS = {}\n@hookimpl\n"
            "def ksi_handle_event(event_name, data, context):\n"
            "    return HANDLERS.get(event_name)\n"
        )
        some = (
            "from eggspecs import hookimpl\nNAME = 'c:d'\n@hookimpl\n"
            "def ksi_handle_event(event_name, data, context):\n"
            "    if event_name in ('a:b', 'a:c') or event_name is None: return 1\n"
            "    if event_name.startswith('e:fail') or event_name.startswith('ag'): return 2\n"
            "    if event_name == NAME: return 3\n"
        )
        all_read = some.replace(" or event_name.startswith('ag')", "").replace("NAME:", "'c:d':")
        lines = "{} (lines 6, 7)"
        hook = "plugin it takes events by ksi_handle_event, and "
        for source, events, told in (
            (table, [], [hook + "none of their names is found in {}"]),
            (some, ["a:b", "a:c", "e:**"], [hook + "not all of their names are found in " + lines]),
            (all_read, ["a:b", "a:c", "c:d", "e:**"], []),
        ):
            folder = self.project({"it": source}, KSI_SPECS)
            said = {**SAID, "project": "ksi"}
            host = self.pluggy(folder, said)
            warnings = [it[3] for it in host.logs() if it[1] == 2]
            names = {it["name"]: it["subscriptions"] for it in host.description["handlers"]}
            self.assertEqual(names.get("ksi_handle_event", []), events)
            file = os.path.join(folder, "plugins", "it.py")
            way = "; name them in event_names of [tool.ksi.pluggy]"
            self.assertEqual(warnings, [it.format(file) + way for it in told])
            host = self.pluggy(folder, {**said, "event_names": ["c:d"]})
            self.assertEqual([it for it in host.logs() if it[1] == 2], [])

    def test_one_answer_goes_as_it_is_and_several_together(self) -> None:
        host = self.ksi()
        host.report(host.until("EMIT"), [])

        def ask(name: str, data: Any = None) -> Any:
            return host.asked("ksi_handle_event", data, name=name, attributes={"_agent_id": "me"})

        healthy = {"status": "healthy", "agent": "me"}
        self.assertEqual(ask("system:health", 5), {"responses": [{"other": 5}, healthy]})
        self.assertEqual(ask("health:sub:x"), "health:sub:x")
        self.assertEqual(ask("health:table"), "from a table")
        self.assertEqual(ask("not:read"), "configured")
        self.assertIsNone(ask("nobody:knows"))

    def test_its_life_is_that_of_the_instance(self) -> None:
        host = self.ksi()
        frame = host.until("EMIT")
        self.assertEqual((frame.emit().name, frame.emit().call), ("health:beat", 0))
        host.report(frame, [])
        host.asked("ksi_shutdown", {}, name="module:shutdown")
        life = host.asked("ksi_handle_event", {}, name="health:life")
        self.assertEqual(life, [["startup", {"level": 1}], ["shutdown"]])
        self.assertEqual(host.shut_down(), 0)

    def test_it_is_ready_when_it_is_live_and_not_before(self) -> None:
        folder = self.project({"health": HEALTH, "failing": FAILING}, KSI_SPECS)
        host = self.pluggy(folder, {**SAID, "project": "ksi"}, live=False)
        with host.together():
            ping = host.put("PING")
            host.put("LIVE", id=0)
            call = host.call("ksi_handle_event", {}, "health:life")
        self.assertEqual(host.next().id, ping)
        self.assertEqual(host.until("REPLY", call).json()[-1], ["failing is ready"])
        told = [it[3] for it in host.logs() if it[1] == 1]
        self.assertEqual(["plugin failing, hook ksi_ready: OSError: no" in it for it in told], [True])

    def test_hooks_that_its_own_specifications_do_not_know_are_called(self) -> None:
        # KSI's own have no ksi_plugin_context, and its loader accepts any hook.
        specs = KSI_SPECS.replace("    @hookspec\n    def ksi_plugin_context(context): ...\n", "")
        self.assertNotIn("context(context)", specs)
        other = OTHER + "    @hookimpl\n    def ksi_metrics(x): return x\n"
        folder = self.project({"health": HEALTH, "other": other}, specs)
        host = self.pluggy(folder, {**SAID, "project": "ksi"}, {"level": 1})
        frame = host.until("EMIT")
        self.assertEqual(frame.emit().name, "health:beat")
        host.report(frame, [])
        self.assertEqual(host.asked("ksi_metrics", {"x": 1}, name="ksi:ksi_metrics"), [1])
        told = [it[3] for it in host.logs() if "specification" in it[3]]
        words = "plugin other has the hook ksi_metrics, which no specification knows"
        self.assertEqual([it[: len(words)] for it in told], [words])

    def test_names_that_are_none_are_not_taken_for_events(self) -> None:
        def handle(event_name: str, data: Any, context: Any) -> None:
            if event_name == "no name" or event_name.startswith("state"):
                return
            match_it = {"a:b": 1, "x": 2}
            match_it.get(event_name)

        names = read_event_names(handle).names
        self.assertIn("a:b", names)
        self.assertNotIn("no name", names)
        self.assertNotIn("x", names)


if __name__ == "__main__":
    unittest.main()

"""What is read of a plugin's source, and that it is what running it gives."""

import json
import os
import subprocess
import sys
import time
import unittest
from typing import Any

from ksi import schemas
from ksi import types as ksi_types
from ksi.describing import program
from ksi.describing.ksi_types import KSI_TYPES
from ksi.describing.project import satisfies

from . import SOURCES
from .host import WorkerTest

PACKAGE = os.path.join(SOURCES, "ksi")


def texts() -> dict[str, str]:
    """What a host gives an interpreter: the program, and what it imports of the package."""
    found = {"ksi": ""}
    folder = os.path.join(PACKAGE, "describing")
    for name in ["names.py", *(f"describing/{it}" for it in os.listdir(folder))]:
        if name.endswith(".py"):
            module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            with open(os.path.join(PACKAGE, name)) as file:
                found[f"ksi.{module}"] = file.read()
    return found


def command() -> list[str]:
    given = texts()
    return ["-c", given["ksi.describing.boot"], *(it for pair in given.items() for it in pair)]


#: The file that is run, in a folder as well.
ENTRY = {"tool": {"ksi": {"module": "sample"}}}
#: Before CPython 3.11 whoever asks has read it.
_READS_TOML = unittest.skipIf(sys.version_info < (3, 11), "this Python has no reader of TOML")


class Describing(WorkerTest):
    def described(self, source: str, name: str = "sample.py", **request: str) -> dict[str, Any]:
        answer = program.answer({"path": self.write(source, name), **request})
        self.assertIn("manifest", answer, answer)
        return answer["manifest"]

    def mistake(self, source: str, name: str = "sample.py") -> dict[str, Any]:
        answer = program.answer({"path": self.write(source, name)})
        self.assertIn("error", answer, answer)
        return answer["error"]

    def same_as_running(self, source: str) -> dict[str, Any]:
        """What is read is what the worker says when it has run the file."""
        manifest = self.described(source)
        self.assertTrue(manifest["handlers_complete"], manifest["unread"])
        ran = self.opens(source, python={"keep": manifest["keep"]}).description
        keys = ("name", "subscriptions", "priority", "timeout_ms", "blocking")
        told = [{key: it[key] for key in keys} for it in ran["handlers"]]
        self.assertEqual(manifest["handlers"], told)
        self.assertEqual(manifest["state"], ran["state"])
        self.assertEqual(manifest["keep"], ran["keep"])
        read = {it["name"]: manifest["schemas"].get(it["name"]) for it in ran["handlers"]}
        self.assertEqual(read, {it["name"]: it["payload"] for it in ran["handlers"]})
        summaries = {it["name"]: it["summary"] for it in ran["handlers"]}
        self.assertEqual(manifest["summaries"], summaries)
        return manifest

    def test_handlers_are_read_with_all_that_their_decorators_say(self) -> None:
        manifest = self.same_as_running(
            """
            '''A module.'''
            from ksi.events import event_handler, EventPriority
            NAME, LIMIT = "not read", 2
            PREFIX = "state"
            SET = PREFIX + ":set"
            LOW = EventPriority.LOW
            @event_handler(SET, priority=LOW + 1, timeout=1.5)
            async def set_value(data: dict):
                '''Sets it.

                More of it.'''
            @event_handler(f"{PREFIX}:get", EventPriority.HIGHEST)
            def get(data, context): ...
            @event_handler(event="a:**", filter_func=lambda *it: True)
            async def everything(data): ...
            @event_handler("*", priority=-5)
            async def all_of_them(data): ...
            """
        )
        handlers = {it["name"]: it for it in manifest["handlers"]}
        self.assertEqual(handlers["set_value"]["subscriptions"], ["state:set"])
        self.assertEqual(handlers["set_value"]["priority"], -41)
        self.assertEqual(handlers["set_value"]["timeout_ms"], 1500)
        self.assertTrue(handlers["get"]["blocking"])

    def test_names_are_found_by_whatever_they_are_imported_as(self) -> None:
        imports = {
            "from ksi.events import event_handler as on": "on",
            "from ksi import event_handler": "event_handler",
            "import ksi": "ksi.event_handler",
            "import ksi.events": "ksi.events.event_handler",
            "import ksi.events as e": "e.event_handler",
            "from ksi import events": "events.event_handler",
            "from ksi.events import *": "event_handler",
            "from ksi.events import event_handler\non = event_handler": "on",
            "import ksi.events\non = ksi.events.event_handler": "on",
        }
        for line, decorator in imports.items():
            with self.subTest(line):
                source = f"{line}\n@{decorator}('a:b')\nasync def f(data): ...\n"
                self.assertEqual(self.same_as_running(source)["handlers"][0]["name"], "f")

    def test_what_is_only_called_so_is_no_handler(self) -> None:
        manifest = self.same_as_running(
            """
            def event_handler(name):
                return lambda func: func
            class other:
                event_handler = staticmethod(event_handler)
            @event_handler("no name")
            def f(data): ...
            @other.event_handler("none either")
            def g(data): ...
            """
        )
        self.assertEqual(manifest["handlers"], [])

    def test_names_of_handlers_are_those_that_running_gives(self) -> None:
        manifest = self.same_as_running(
            """
            from ksi.events import event_handler
            @event_handler("a:a")
            @event_handler("a:b")
            async def twice(data): ...
            class First:
                @event_handler("a:c")
                async def handle(data): ...
                class Inner:
                    @event_handler("a:d")
                    async def handle(data): ...
            @event_handler("a:e")
            async def handle(data): ...
            def plain(data): ...
            event_handler("a:f")(plain)
            later = event_handler("a:g", priority=10)(plain)
            """
        )
        self.assertEqual(
            [(it["name"], it["subscriptions"][0]) for it in manifest["handlers"]],
            [
                ("twice", "a:b"),
                ("twice_2", "a:a"),
                ("First.handle", "a:c"),
                ("First.Inner.handle", "a:d"),
                ("handle", "a:e"),
                ("plain", "a:f"),
                ("plain_2", "a:g"),
            ],
        )

    def test_what_only_running_tells_is_left_to_it(self) -> None:
        begin = "import os, sys\nfrom ksi.events import event_handler, emit_event\n"
        for source in (
            "@event_handler(os.environ.get('X', 'a:b'))\ndef f(d): ...",
            "for name in ('a:b', 'a:c'):\n    @event_handler(name)\n    def f(d): ...",
            "if len(sys.argv) > 5:\n    @event_handler('a:b')\n    def f(d): ...",
            "try:\n    import nothing_of_it\nexcept ImportError:\n"
            "    @event_handler('a:b')\n    def f(d): ...",
            "def make():\n    @event_handler('a:b')\n    def f(d): ...\nmake()",
            "def own(name):\n    return event_handler(name)\n@own('a:b')\ndef f(d): ...",
            "@event_handler('a:b', priority='high')\ndef f(d): ...",
            "options = {'priority': 5}\n@event_handler('a:b', **options)\ndef f(d): ...",
            "def other(f): return lambda d: f(d)\n@event_handler('a:b')\n@other\ndef f(d): ...",
            "NAME = 'a:b'\nNAME = 'a:c'\n@event_handler(NAME)\ndef f(d): ...",
            "import ksi\nksi.get_router().register_handler('a:b', print)",
            "event_handler('a:b')(lambda data: data)",
        ):
            with self.subTest(source):
                manifest = self.described(begin + source + "\n")
                self.assertFalse(manifest["handlers_complete"])
                self.assertTrue(manifest["unread"][0]["what"])
                self.assertGreater(manifest["unread"][0]["line"], 2)

    def test_what_an_import_does_not_run_is_not_read(self) -> None:
        manifest = self.described(
            """
            from typing import TYPE_CHECKING
            from ksi.events import event_handler
            if TYPE_CHECKING:
                @event_handler("no name")
                def f(data): ...
            if __name__ == "__main__":
                event_handler("no name")(print)
            """
        )
        self.assertEqual((manifest["handlers"], manifest["handlers_complete"]), ([], True))

    def test_emitted_events_are_read_as_far_as_they_are_names(self) -> None:
        manifest = self.described(
            """
            from ksi.events import emit_event, send_event as send
            from ksi.router import get_router
            CHANGED = "state:changed"
            router = get_router()
            async def f(data):
                await emit_event(CHANGED, {})
                await emit_event(f"state:{data}", {})
                await send("state:sent")
                await router.emit("state:routed", {})
                await get_router().emit_first("state:first")
                await data.emit("not:ours")
                await emit_event("no name")
                await event_emitter("ksi:old")
            """
        )
        names = ["ksi:old", "state:changed", "state:first", "state:routed", "state:sent"]
        self.assertEqual(manifest["emits"], names)
        self.assertEqual([it["line"] for it in manifest["unread"]], [8])
        self.assertTrue(manifest["handlers_complete"])

    def test_schemas_are_those_of_the_types(self) -> None:
        manifest = self.same_as_running(
            """
            from typing import (
                Annotated, Any, Dict, List, Literal, Mapping, Optional, Sequence, TypedDict, Union,
            )
            import typing as t
            from ksi.events import event_handler
            from ksi.types import StateUpdate

            Json = Dict[str, Any]
            class Address(TypedDict):
                '''Where it is.'''
                street: str
                number: Optional[int]
            class Base(TypedDict):
                name: str
            class Order(Base, total=False):
                '''An order.

                With more text.'''
                count: int
                price: Union[int, float]
                how: Literal["now", "later", 3]
                tags: List[str]
                address: Address
                addresses: Dict[str, Address]
                more: Json
                anything: Any
                quoted: "Optional[str]"
                noted: Annotated[str, "a note"]
                plain: list
                pairs: tuple
            Functional = TypedDict("Functional", {"a-b": int, "c": "str"}, total=False)
            class Own(StateUpdate):
                more: t.Sequence[int]

            @event_handler("a:a")
            async def order(data: Order): ...
            @event_handler("a:b")
            async def functional(data: Functional): ...
            @event_handler("a:c")
            async def own(data: Own): ...
            @event_handler("a:d")
            async def ours(data: StateUpdate): ...
            @event_handler("a:e")
            async def json(data: Json): ...
            @event_handler("a:f", schema=Address)
            async def said(data): ...
            @event_handler("a:g", schema={"type": "integer"})
            async def literal(data): ...
            @event_handler("a:h")
            async def nothing(data): ...
            @event_handler("a:i")
            async def unions(data: Optional[Mapping[str, Sequence[int]]]): ...
            """
        )
        order = manifest["schemas"]["order"]
        self.assertEqual(order["required"], ["name"])
        self.assertEqual(order["description"], "An order.")
        self.assertEqual(order["properties"]["how"], {"enum": ["now", "later", 3]})
        address = order["properties"]["addresses"]["additionalProperties"]
        self.assertEqual(address["required"], ["street", "number"])

    @unittest.skipIf(sys.version_info < (3, 11), "NotRequired is there from 3.11 on")
    def test_keys_may_say_themselves_whether_they_are_required(self) -> None:
        for future in ("", "from __future__ import annotations\n"):
            source = """
from typing import NotRequired, Required, TypedDict
from ksi.events import event_handler
class A(TypedDict):
    a: str
    b: NotRequired[int]
class B(TypedDict, total=False):
    c: Required[str]
    d: int | None
@event_handler("a:a")
async def first(data: A): ...
@event_handler("a:b")
async def second(data: B): ...
"""
            manifest = self.same_as_running(future + source)
            required = [manifest["schemas"][it]["required"] for it in ("first", "second")]
            self.assertEqual(required, [["a"], ["c"]])

    def test_the_schemas_of_the_packages_types_are_those_of_its_types(self) -> None:
        for name in ksi_types.__all__:
            expected = schemas.of(getattr(ksi_types, name))
            self.assertEqual(KSI_TYPES[name], expected, name)

    def test_the_state_is_found(self) -> None:
        functions = "def snapshot(): return {}\nasync def restore(data): ...\n"
        versioned = "STATE_VERSION = 3\ndef snapshot(): ...\ndef restore(data, version): ...\n"
        one = {"writes": [1], "restores": [1]}
        three = {"writes": [3], "restores": [3, 2, 1]}
        for source, keep, state in (
            ("_state = {}\n", ["_state"], one),
            ("_state: dict[str, int] = dict()\n", ["_state"], one),
            ("_state = [1, 2]\nSTATE_VERSION = 3\n", ["_state"], {"writes": [3], "restores": [3]}),
            ("from collections import defaultdict\n_state = defaultdict(dict)\n", ["_state"], one),
            (functions, [], one),
            ("_state = {}\n" + functions, [], one),
            (versioned, [], three),
            ("_state = None\n", [], None),
            ("_state = object()\n", [], None),
            ("def f():\n    _state = {}\n", [], None),
            ("def snapshot(): ...\n", [], None),
        ):
            with self.subTest(source):
                manifest = self.same_as_running(source)
                self.assertEqual((manifest["keep"], manifest["state"]), (keep, state))
        self.assertIn(
            "STATE_VERSION is 0", self.mistake("_state = {}\nSTATE_VERSION = 0\n")["message"]
        )

    def test_a_state_that_only_running_tells_is_left_to_that(self) -> None:
        one = {"writes": [1], "restores": [1]}
        helpers = "state = {}\ndef snapshot(): return state\ndef restore(data): ...\n"
        for source, keep, state in (
            ("D = {}\n_state = D.copy()\n", ["_state"], one),
            ("import json\n_state = json.loads('{}')\n", ["_state"], one),
            ("x = 1\n_state = {} if x else {}\n", ["_state"], one),
            ("_state = None\n_state = {}\n", ["_state"], one),
            ("try:\n    _state = {}\nfinally: pass\n", ["_state"], one),
            ("_state = {}\n_state = None\n", [], None),
            ("from helpers import snapshot, restore\n", [], one),
            ("from helpers import *\n", [], one),
            ("from typing import *\nfrom ksi.events import *\n_state = {}\n", ["_state"], one),
            ("from helpers import state as _state\n", ["_state"], one),
            ("_state = other = {}\n", ["_state"], one),
            ("_state, other = {}, {}\n", ["_state"], one),
            ("for _state in [{}]: pass\n", ["_state"], one),
            ("with open('/dev/null') as _state: pass\n_state = {}\n", ["_state"], one),
            ("snapshot = lambda: 1\nrestore = lambda data: 1\n", [], one),
            ("import os\n_state = {}\nSTATE_VERSION = int(os.sep and 4)\n", ["_state"], 4),
            ("VERSION = 3\n_state = {}\nSTATE_VERSION = VERSION + 1\n", ["_state"], 4),
        ):
            with self.subTest(source):
                manifest = self.described(source)
                if "typing" in source:
                    self.assertEqual(manifest["unread"], [])
                path = self.write(helpers, "helpers.py")
                ran = self.opens(source, python={"path": [os.path.dirname(path)]}).description
                expected = {"writes": [state], "restores": [state]} if state == 4 else state
                self.assertEqual((ran["keep"], ran["state"]), (keep, expected))
                # What is said is so, and what is not sure is said to be that.
                if manifest["state"] is None:
                    self.assertTrue(manifest["unread"])
                else:
                    self.assertEqual(manifest["state"], expected)
                    self.assertEqual(manifest["keep"], keep)

    @_READS_TOML
    def test_whether_somebody_has_named_what_is_kept_is_said(self) -> None:
        head = "# /// script\n# [tool.ksi]\n# keep = ['_state']\n# ///\n"
        for keep_is_named, source in ((True, head), (False, "")):
            manifest = self.described(source + "_state = {}\n")
            self.assertEqual(manifest["keep_is_named"], keep_is_named)
            self.assertEqual(manifest["keep"], ["_state"])
        message = self.mistake("known = {}\nSTATE_VERSION = 0\n")["message"]
        self.assertIn("STATE_VERSION is 0", message)

    def test_the_life_of_ksis_modules_is_no_handler(self) -> None:
        manifest = self.same_as_running(
            """
            from ksi.events import event_handler
            @event_handler("system:startup")
            async def startup(data): ...
            @event_handler("system:ready")
            async def ready(data): ...
            @event_handler("system:shutdown")
            async def shutdown(data): ...
            @event_handler("checkpoint:collect")
            async def collect(data): ...
            @event_handler("checkpoint:restore")
            async def restore(data): ...
            """
        )
        self.assertEqual(
            [(it["name"], it["subscriptions"]) for it in manifest["handlers"]],
            [("shutdown", ["module:shutdown"])],
        )
        self.assertEqual(manifest["state"], {"writes": [1], "restores": [1]})

    def test_what_a_host_has_read_of_it_is_taken_as_it_is(self) -> None:
        said = {
            "project": {"version": "3"},
            "tool": {"ksi": {"kind": "pluggy", "pluggy": {"manager": "a:b"}}},
        }
        self.write("no toml", "plugin/pyproject.toml")
        request = {"path": os.path.join(self.folder, "plugin"), "name": "shop", "said": said}
        manifest = program.answer(request)["manifest"]
        self.assertEqual((manifest["version"], manifest["pluggy"]), ("3", {"manager": "a:b"}))
        path = self.write("# /// script\n# no toml\n# ///\n_a = {}\n")
        manifest = program.answer({"path": path, "said": {"dependencies": ["b"]}})["manifest"]
        self.assertEqual(manifest["dependencies"], ["b"])
        path = self.write("_state = {}\n")
        self.assertEqual(program.answer({"path": path, "said": None})["manifest"]["python"], "")

    @_READS_TOML
    def test_what_a_script_needs_is_read_from_its_head(self) -> None:
        manifest = self.described(
            """
            # /// script
            # requires-python = ">=3.8"
            # dependencies = [
            #   "structlog>=24",  # for the log
            #   "pydantic[email]",
            # ]
            # [tool.ksi]
            # requires = ["state:get"]
            # keep = ["_cache"]
            # ///
            __version__ = "1.2"
            _cache = {}
            """
        )
        self.assertEqual(manifest["python"], ">=3.8")
        self.assertEqual(manifest["dependencies"], ["structlog>=24", "pydantic[email]"])
        self.assertEqual((manifest["requires"], manifest["keep"]), (["state:get"], ["_cache"]))
        self.assertEqual((manifest["version"], manifest["name"]), ("1.2", "sample"))
        head = "# /// script\n# requires-python = '>=4'\n# ///\n"
        self.assertIn("it needs Python >=4, and ", self.mistake(head)["message"])

    def test_what_an_interpreter_must_be_is_compared(self) -> None:
        for wanted, fits in (
            ("", True),
            (">=3.10", True),
            (">=3.11,<3.12", True),
            (">=3.12", False),
            ("<3.11", False),
            ("==3.11.*", True),
            ("==3.11", False),
            ("~=3.10", True),
            ("~=3.10.0", False),
            ("!=3.11.*", False),
            (">3.11", True),
            ("something", True),
        ):
            self.assertEqual(satisfies((3, 11, 7), wanted), fits, wanted)

    @_READS_TOML
    def test_a_folder_is_read_by_its_project_and_with_what_it_imports(self) -> None:
        project = """
            [project]
            name = "shop"
            version = "2.1"
            requires-python = ">=3.10"
            dependencies = ["structlog"]
            [tool.ksi]
            module = "shop.plugin"
            exclusive = true
            """
        self.write(project, "plugin/pyproject.toml")
        self.write("", "plugin/src/shop/__init__.py")
        main = """
            from .orders import placed
            from ksi.events import event_handler
            _state = {}
            @event_handler("a:last")
            async def last(data): ...
            """
        self.write(main, "plugin/src/shop/plugin.py")
        orders = """
            from shop import other
            from ksi.events import event_handler
            @event_handler("a:second")
            async def placed(data): ...
            """
        self.write(orders, "plugin/src/shop/orders.py")
        first = (
            "from ksi import event_handler\n@event_handler('a:first')\nasync def first(data): ...\n"
        )
        self.write(first, "plugin/src/shop/other.py")
        folder = os.path.join(self.folder, "plugin")
        answer = program.answer({"path": folder, "file": "/plugins/shop", "name": "shop"})
        manifest = answer["manifest"]
        self.assertEqual(
            [it["subscriptions"][0] for it in manifest["handlers"]],
            ["a:first", "a:second", "a:last"],
        )
        self.assertEqual(manifest["entry"], "src/shop/plugin.py")
        self.assertEqual((manifest["version"], manifest["exclusive"]), ("2.1", True))
        self.assertEqual(manifest["dependencies"], ["structlog"])
        host = self.host()
        python = {"entry": manifest["entry"], "path": [f"{folder}/src"], "keep": manifest["keep"]}
        opened = host.open(folder, plugin="shop", python=python)
        self.assertEqual(opened.kind, "OPENED", opened)
        names = [it["name"] for it in host.description["handlers"]]
        self.assertEqual([it["name"] for it in manifest["handlers"]], names)

    @_READS_TOML
    def test_a_folder_without_an_entry_says_what_is_missing(self) -> None:
        self.write("[tool.ksi]\nmodule = 'nothing'\n", "plugin/pyproject.toml")
        answer = program.answer({"path": os.path.join(self.folder, "plugin")})
        self.assertIn("module = 'nothing'", answer["error"]["message"])

    @_READS_TOML
    def test_what_a_project_says_is_of_the_kind_that_belongs_there(self) -> None:
        folder = os.path.join(self.folder, "plugin")
        self.write("", "plugin/plugin.py")
        pluggy = "[tool.ksi]\nkind = 'pluggy'\n[tool.ksi.pluggy]\n"
        for toml, words in (
            ("project = 3", "project = 3"),
            ("tool = 3", "tool = 3"),
            ("[tool]\nksi = 'yes'", "tool.ksi = 'yes'"),
            ("[project]\ndependencies = 'structlog'", "project.dependencies = 'structlog'"),
            ("[project]\ndependencies = [1]", "project.dependencies = [1]"),
            ("[project]\nrequires-python = 3", "project.requires-python = 3"),
            ("[project]\nversion = 2", "project.version = 2"),
            ("[tool.ksi]\nkeep = '_state'", "tool.ksi.keep = '_state'"),
            ("[tool.ksi]\nrequires = 'article:get'", "tool.ksi.requires = 'article:get'"),
            ("[tool.ksi]\nrequires = ['article']", "'article', which is no event name"),
            ("[tool.ksi]\nexclusive = 'no'", "tool.ksi.exclusive = 'no'"),
            ("[tool.ksi]\nmodule = ['a']", "tool.ksi.module = ['a']"),
            ("[tool.ksi]\nkind = 'pluggy'\npluggy = 'x'", "tool.ksi.pluggy = 'x'"),
            ("[tool.ksi.pluggy]\nstate = 1", "tool.ksi.pluggy.state = 1"),
            ("[tool.ksi.pluggy]\nplugins = {a = 1}", "tool.ksi.pluggy.plugins = {'a': 1}"),
            ("[tool.ksi.pluggy]\nevents = 'a:b'", "tool.ksi.pluggy.events = 'a:b'"),
            ("[tool.ksi.pluggy.events]\n'a:b' = ['x']", "tool.ksi.pluggy.events.a:b = ['x']"),
            ("[tool.ksi]\nkeeep = ['a']", "tool.ksi.keeep, which means nothing: did you mean `keep`?"),
            ("[tool.ksi]\nrequirs = ['a:b']", "did you mean `requires`?"),
            ("[tool.ksi]\nwhatever = 1", "means nothing: there are exclusive, keep, kind, "),
            ("[tool.ksi]\nkind = 'plugy'", "tool.ksi.kind is 'plugy', and no plugin is that: did"),
            ("[tool.ksi]\nkind = 'pluggy'", "it is of the kind pluggy, and no plugins are named"),
            (f"{pluggy}blocked = ['a']", "tool.ksi.pluggy.blocked, which means nothing: did you"),
            (f"{pluggy}plugin = ['a']", "did you mean `plugins`?"),
            (f"{pluggy}entrypoints = 'a'", "did you mean `entry_points`?"),
            (f"{pluggy}hookspecs = 'a'", "and no plugins are named"),
            ("[tool.ksi.pluggy]\nmanager = 'a:b'", 'those say kind = "pluggy"'),
        ):
            with self.subTest(toml):
                self.write(toml + "\n", "plugin/pyproject.toml")
                message = program.answer({"path": folder})["error"]["message"]
                self.assertIn(words, message)
                self.assertNotIn("Error", message)
        head = "# /// script\n# dependencies = 'structlog'\n# ///\n"
        message = self.mistake(head)["message"]
        expected = (
            "the head of the file has dependencies = 'structlog', where a list of texts belongs"
        )
        self.assertEqual(message, expected)

    def test_mistakes_say_where_they_are(self) -> None:
        error = self.mistake("x = 1\ndef f(:\n")
        self.assertEqual((error["line"], error["column"], error["text"]), (2, 7, "def f(:"))
        self.assertTrue(error["message"])
        error = self.mistake("from ksi import event_handler\n@event_handler('a')\ndef f(d): ...\n")
        self.assertIn("it needs a namespace", error["message"])
        self.assertEqual((error["line"], error["column"]), (2, 2))
        error = self.mistake("x = 1\ny = '\0'\n")
        self.assertEqual((error["line"], error["column"]), (2, 6))
        self.assertIn("null bytes", error["message"])
        self.assertTrue(program.answer({"path": "/nowhere/at/all.py"})["error"]["message"])
        self.assertTrue(program.answer({})["error"]["message"])
        self.assertTrue(self.mistake("x = " + "(" * 5000 + ")" * 5000)["message"])

    def test_an_encoding_that_cannot_be_read_is_told_where_it_is_named(self) -> None:
        for source, line, column, words in (
            (b"# -*- coding: nonsense -*-\n", 1, 15, "unknown encoding: nonsense"),
            (b"#!/usr/bin/python\n# vim: set fileencoding=foo :\n", 2, 25, "unknown encoding: foo"),
            (b"\xef\xbb\xbf# coding: latin-1\n", 1, 11, "iso-8859-1 with BOM"),
            (b"# coding: ascii\nx = '\xc3\xa4'\n", 1, 11, "can't decode byte"),
        ):
            with self.subTest(source):
                path = self.write("")
                with open(path, "wb") as file:
                    file.write(source + b"x = 1\n")
                error = program.answer({"path": path})["error"]
                self.assertEqual((error["line"], error["column"]), (line, column))
                self.assertIn(words, error["message"])
                self.assertEqual(error["file"], path)
                self.assertIn("coding", error["text"])

    def test_a_file_with_two_blocks_is_refused(self) -> None:
        block = "# /// script\n# dependencies = ['six']\n# ///\n"
        other = block.replace("script", "other")
        for said in ({}, {"said": {"dependencies": ["six"]}}):
            path = self.write(f"{block}x = 1\n{other}\n{block}")
            error = program.answer({"path": path, **said})["error"]
            self.assertEqual((error["line"], error["text"]), (9, "# /// script"))
            self.assertEqual((error["column"], error["file"]), (1, path))
            self.assertIn("a second block of PEP 723", error["message"])
            manifest = program.answer({"path": self.write(block + other), "said": {}})
            self.assertIn("manifest", manifest)

    def test_a_name_that_no_plugin_may_have_is_told_with_what_to_rename(self) -> None:
        for name in ("plügin", "a b", "a.b", "_a", "x" * 65):
            for path, what in ((self.write("x = 1\n"), "file"), (self.folder, "folder")):
                with self.subTest(name=name, what=what):
                    error = program.answer({"path": path, "name": name, "said": ENTRY})["error"]
                    self.assertIn(f"{name!r} is no plugin name", error["message"])
                    self.assertIn(f"rename the {what}", error["message"])
        said = {"tool": {"ksi": {"name": "No Name"}}}
        error = program.answer({"path": self.write("x = 1\n"), "name": "a", "said": said})["error"]
        self.assertIn("'No Name' is no plugin name", error["message"])
        self.assertIn("change tool.ksi.name", error["message"])
        for name in ("a", "A", "0-_", "x" * 64):
            answer = program.answer({"path": self.folder, "name": name, "said": ENTRY})
            self.assertIn("manifest", answer)

    def test_what_is_not_read_is_told_in_the_form_that_a_host_reads(self) -> None:
        # `Unread` in the host's `plugin/file/manifest/built.rs`.
        sources = (
            "N = 'q:' + str(1)\n@event_handler(N)\nasync def f(data): ...\n",
            "for n in 'ab':\n    @event_handler(f'r:{n}')\n    async def f(data): ...\n",
            "async def f(data): await emit_event(data['event'])\n",
            "import other\n_state = other.made()\n",
            "from other import *\n",
        )
        for source in sources:
            with self.subTest(source):
                source = f"from ksi.events import emit_event, event_handler\n{source}"
                unread = self.described(source)["unread"]
                self.assertTrue(unread)
                for it in unread:
                    kinds = {key: type(value) for key, value in it.items()}
                    self.assertEqual(kinds, {"file": str, "line": int, "what": str})
                    self.assertTrue(it["file"] and it["what"] and it["line"] >= 1, it)


class TheProgram(WorkerTest):
    def start(self, *how: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-I", "-B", *how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        return process

    def ask(self, process: "subprocess.Popen[str]", request: str) -> Any:
        process.stdin.write(request + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    def test_it_answers_line_by_line_and_lives_on(self) -> None:
        good = self.write("_state = {}\n")
        bad = self.write("def f(:\n", "bad.py")
        process = self.start(*command())
        for _ in range(2):
            self.assertIn("manifest", self.ask(process, json.dumps({"path": good})))
            self.assertIn("error", self.ask(process, json.dumps({"path": bad})))
            self.assertIn("error", self.ask(process, "no json"))
            self.assertIn("error", self.ask(process, "[]"))

    def test_nothing_of_a_plugin_runs_and_nothing_is_imported(self) -> None:
        source = "import os\nos._exit(3)\n" + "import ksi\n" * 2
        process = self.start(*command())
        self.assertIn("manifest", self.ask(process, json.dumps({"path": self.write(source)})))
        boot, given = command()[1], command()[2:]
        boot += "    print(sorted(it for it in sys.modules if it.split('.')[0] == 'ksi'))\n"
        run = subprocess.run(
            [sys.executable, "-I", "-c", boot, *given],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        # All that it imports of the package is what it was given, and what it was given it needs.
        expected = sorted(set(texts()) - {"ksi.describing.boot"})
        self.assertEqual(run.stdout.strip(), str(expected))

    def test_a_long_file_is_read_quickly(self) -> None:
        source = long_source(700)
        path = self.write(source)
        program.answer({"path": path})
        began = time.perf_counter()
        manifest = program.answer({"path": path})["manifest"]
        taken = time.perf_counter() - began
        self.assertGreater(len(manifest["handlers"]), 40)
        # It takes 10 to 20 ms; a machine that is busy is no fault.
        self.assertLess(taken, 1)


def long_source(lines: int) -> str:
    """A file of so many lines, of the form that KSI's modules have."""
    block = '''
class Data{n}(TypedDict):
    """Data of {n}."""
    key: str
    value: Optional[Dict[str, Any]]

@event_handler("sample:handle_{n}")
async def handle_{n}(data: Data{n}, context: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
    """Handles {n}."""
    key = data.get("key", "default")
    if key not in _state:
        await emit_event("sample:changed_{n}", {{"key": key, "value": data.get("value")}})
        return {{"status": "error", "error": f"no {{key}}"}}
    return {{"status": "success", "value": _state[key]}}
'''
    head = "from typing import *\nfrom ksi.events import event_handler, emit_event\n_state = {}\n"
    parts, count = [head], 0
    while sum(part.count("\n") for part in parts) < lines:
        parts.append(block.replace("{n}", str(count)).replace("{{", "{").replace("}}", "}"))
        count += 1
    return "".join(parts)


if __name__ == "__main__":
    unittest.main()

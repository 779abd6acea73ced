"""The life of a worker: from HELLO to BYE, or to whatever else ends it."""

import importlib.util
import json
import os
import struct
import subprocess
import sys
import time
import unittest

from .host import BOOTSTRAP, Ended, WorkerTest, text

ECHO = """
    from ksi.events import event_handler
    @event_handler("a:echo")
    async def echo(data):
        return data
"""


class Beginning(WorkerTest):
    def test_a_spare_says_hello_and_answers_pings_before_it_knows_of_a_plugin(self) -> None:
        host = self.host()
        hello = host.next()
        self.assertEqual(hello.kind, "HELLO")
        said = hello.json()
        self.assertEqual(said["protocol"], {"major": 1, "minor": 1})
        self.assertEqual(said["pid"], host.process.pid)
        self.assertIn("python", said["features"])
        self.assertEqual(said["python"]["version"], ".".join(map(str, sys.version_info[:3])))
        host.until("PONG", host.put("PING"))

    def test_a_spare_has_imported_all_that_a_plain_module_needs(self) -> None:
        host = self.live(
            """
            import sys
            before = set(sys.modules)
            from ksi.events import event_handler
            from ksi.types import StateUpdate
            after = set(sys.modules) - before
            @event_handler("a:b")
            async def imported(data: StateUpdate):
                heavy = ("importlib.resources", "tempfile", "pluggy", "shutil")
                return [sorted(after), [it for it in heavy if it in sys.modules]]
            """
        )
        # What a library of the plugin's environment brings along is its own matter.
        if importlib.util.find_spec("uvloop") is None:
            self.assertEqual(host.asked("imported"), [[], []])

    def test_a_spare_that_is_not_needed_ends_well(self) -> None:
        host = self.host()
        host.next()
        host.put("SHUTDOWN")
        self.assertEqual(host.process.wait(10), 0)

    def test_a_host_of_another_version_is_refused_with_both_numbers(self) -> None:
        host = self.host()
        host.next()
        said = {"protocol": {"major": 2, "minor": 3}, "plugin": "x", "path": []}
        host.put("OPEN", json.dumps(said).encode())
        self.assertIn("the host speaks version 2.3, and this is 1.1", host.words())

    def test_what_is_opened_says_what_it_is(self) -> None:
        host = self.opens(
            """
            from ksi.events import event_handler, EventPriority
            _state = {}
            @event_handler("a:b", EventPriority.HIGH, timeout=1.5)
            async def first(data: dict) -> list:
                '''What it does.

                And more.'''
            @event_handler("a:*")
            def second(data): ...
            class Holder:
                @event_handler("c:d")
                def second(data): ...
            """
        )
        description = host.description
        first = {
            "name": "first",
            "summary": "What it does.",
            "payload": {"type": "object"},
            "reply": {"type": "array"},
            "subscriptions": ["a:b"],
            "priority": 40,
            "timeout_ms": 1500,
            "blocking": False,
        }
        self.assertEqual(description["handlers"][0], first)
        names = [it["name"] for it in description["handlers"]]
        self.assertEqual(names, ["first", "second", "Holder.second"])
        self.assertEqual(description["state"], {"writes": [1], "restores": [1]})
        self.assertEqual(description["keep"], ["_state"])

    def test_an_instance_is_made_with_its_configuration(self) -> None:
        for initialize in (
            "async def initialize(router): seen.append(router.config)",
            "def initialize(router): seen.append(router.config)",
            "def initialize(router, config): seen.append(config)",
        ):
            host = self.live(
                f"""
            from ksi.events import event_handler
            seen = []
            {initialize}
            @event_handler("a:seen")
            async def get_seen(data):
                return seen
            """,
                {"level": 3},
            )
            self.assertEqual(host.asked("get_seen"), [{"level": 3}])

    def test_an_instance_that_cannot_be_made_says_why(self) -> None:
        host = self.opens("def initialize(router):\n    raise OSError('no disk')\n")
        code, message = host.create().failure()
        self.assertEqual((code, message.split("\n")[0]), ("OSError", "OSError: no disk"))

    def test_what_makes_no_sense_before_its_time_is_refused(self) -> None:
        host = self.opens(ECHO)
        self.assertEqual(host.snapshot().failure()[0], "no_instance")
        host.create()
        self.assertEqual(host.create().failure()[0], "instance")
        number = host.put("OPEN", b"{}")
        self.assertEqual(host.until("FAILED", number).failure()[0], "open")


class NotOpened(WorkerTest):
    def test_a_mistake_in_an_events_name_says_which_and_where(self) -> None:
        message = self.refused(
            "from ksi.events import event_handler\n@event_handler('state update')\ndef f(d): ...\n"
        )
        self.assertIn("'state update' is no event name or pattern: ' ' is not allowed", message)
        self.assertIn("sample.py, line 2", message)
        for name in ("state", "a::b", "a:b*", "", "a:" + "x" * 300):
            self.assertIn(
                "is no event name or pattern",
                self.refused(
                    f"from ksi import event_handler\n@event_handler({name!r})\ndef f(d): ...\n"
                ),
            )

    def test_a_handler_that_no_call_could_reach_is_refused(self) -> None:
        begin = "from ksi.events import event_handler\nfrom ksi.router import get_router\n"
        taken = "a handler of a:b is called with the data, or with the data and the context, and "
        for source, words in (
            ("@event_handler('a:b')\nasync def f(): ...\n", taken + "f takes no argument"),
            ("@event_handler('a:b')\ndef f(): ...\n", taken + "f takes no argument"),
            ("@event_handler('a:b')\nasync def f(a, b, c): ...\n", taken + "f needs c as well"),
            ("@event_handler('a:b')\nasync def f(a, *, b): ...\n", taken + "f needs b as well"),
            ("get_router().subscribe('a:b', lambda: 1)\n", taken + "<lambda> takes no argument"),
            (
                "@event_handler('a:b', priority='high')\nasync def f(a): ...\n",
                "the priority of a handler of a:b is a whole number, and not 'high'",
            ),
        ):
            with self.subTest(source):
                message = self.refused(begin + source)
                self.assertIn(words, message)
                # Of the decorator, or before Python 3.11 of what it decorates.
                self.assertRegex(message, "sample.py, line [34]")
        good = "async def g(*a): ...\nasync def h(a, b=1, *, context=None, c=2): ...\n"
        good += "async def i(a, **b): ...\nasync def j(a, *, context): ...\n"
        good += "for it in (g, h, i, j, max): event_handler('a:b', priority=True)(it)\n"
        self.opens(begin + good)

    def test_a_missing_dependency_says_which_and_the_command(self) -> None:
        message = self.refused("import yaml_of_nobody.loader\n")
        self.assertIn("sample.py imports yaml_of_nobody, and there is no such module", message)
        self.assertTrue(message.endswith(f"{sys.executable} -m pip install yaml_of_nobody"))

    def test_a_syntax_error_says_the_line(self) -> None:
        message = self.refused("x = 1\ndef f(:\n", file="/plugins/sample.py")
        self.assertRegex(message, r"^/plugins/sample.py, line 2: .*: def f\(:$")

    def test_sys_exit_while_it_is_imported_says_so(self) -> None:
        message = self.refused("import sys\nsys.exit(3)\n")
        expected = "sample.py ends the interpreter while it is imported: SystemExit: 3 (line 2)"
        self.assertEqual(message, expected)

    def test_any_other_error_says_where(self) -> None:
        message = self.refused("x = {}\ny = x['z']\n")
        self.assertIn("sample.py cannot be imported: KeyError: 'z'", message)
        self.assertIn("sample.py, line 2, in <module>: y = x['z']", message)

    def test_os_exit_while_it_is_imported_ends_the_process_with_that_status(self) -> None:
        host = self.host()
        with self.assertRaises(Ended):
            host.open(self.write("import os\nos._exit(7)\n"))
        self.assertEqual(host.process.wait(10), 7)

    def test_an_endless_import_is_ended_by_the_host(self) -> None:
        host = self.host()
        host.open(self.write("while True:\n    pass\n"), wait=False)
        host.ping()
        host.socket.close()
        self.assertNotEqual(host.process.wait(10), 0)

    def test_a_kind_that_is_not_known_is_refused(self) -> None:
        message = self.refused("", python={"kind": "other"})
        self.assertIn("no plugins of the kind 'other'", message)

    def test_a_process_whose_plugin_cannot_be_opened_still_ends_in_order(self) -> None:
        host = self.host()
        host.open(self.write("x = {}['y']"))
        self.assertEqual(host.shut_down(), 0)


class Names(WorkerTest):
    def test_a_module_may_be_called_as_one_of_the_interpreter_is(self) -> None:
        host = self.live(ECHO, name="json.py")
        self.assertEqual(host.asked("echo", {"a": 1}), {"a": 1})

    def test_a_module_may_be_called_as_a_package_that_it_needs(self) -> None:
        self.write("VALUE = 'package'\n", "packages/httpx/__init__.py")
        self.write("VALUE = 'namespace'\n", "packages/space/part.py")
        self.write("VALUE = 'file'\n", "packages/single.py")
        source = """
            from ksi.events import event_handler
            import {0} as it
            @event_handler("a:get")
            async def get(data):
                import {0} as later
                return [it.VALUE, later is it]
            """
        python = {"path": [os.path.join(self.folder, "packages")]}
        for name, imported, value in (
            ("httpx", "httpx", "package"),
            ("space", "space.part", "namespace"),
            ("single", "single", "file"),
        ):
            with self.subTest(name):
                host = self.live(source.format(imported), name=f"{name}.py", python=python)
                self.assertEqual(host.asked("get"), [value, True])

    def test_a_file_of_a_folder_is_imported_by_others_of_it_as_what_runs(self) -> None:
        self.write("import stock\ndef same(): return stock.STATE\n", "folder/helper.py")
        source = """
            from ksi.events import event_handler
            STATE = []
            @event_handler("a:get")
            async def get(data):
                import helper
                return helper.same() is STATE
            """
        self.write(source, "folder/stock.py")
        host, folder = self.host(), os.path.join(self.folder, "folder")
        python = {"entry": "stock.py", "path": [folder]}
        self.assertEqual(host.open(folder, plugin="stock", python=python).kind, "OPENED")
        host.create()
        self.assertTrue(host.asked("get"))

    def test_a_folder_is_run_by_its_entry(self) -> None:
        self.write("VALUE = 5\n", "package/helper.py")
        source = """
            from ksi.events import event_handler
            from .helper import VALUE
            @event_handler("a:value")
            async def value(data):
                if data: raise ValueError(data)
                return [VALUE, __file__]
            """
        self.write(source, "package/__init__.py")
        host = self.host()
        python = {"entry": "package/__init__.py", "path": [self.folder]}
        answer = host.open(self.folder, plugin="other", file="/from/here", python=python)
        self.assertEqual(answer.kind, "OPENED", answer)
        host.create()
        self.assertEqual(host.asked("value")[0], 5)
        _, message = host.ends(host.call("value", 1)).failure()
        self.assertIn("/from/here/package/__init__.py, line 6", message)

    def test_a_path_need_not_be_a_text(self) -> None:
        host = self.host()
        folder = os.path.join(os.fsencode(self.folder), b"\xff")
        os.mkdir(folder)
        path = os.path.join(folder, b"sample.py")
        with open(path, "w") as file:
            file.write("from ksi import event_handler\n@event_handler('a:b')\ndef f(d): return 1\n")
        python = {"path": [os.fsdecode(folder)]}
        self.assertEqual(host.open(os.fsdecode(path), python=python).kind, "OPENED")

    def test_nothing_is_written_beside_a_module(self) -> None:
        self.write("", "helper.py")
        host = self.live("import helper\n", python={"path": [self.folder]})
        host.shut_down()
        self.assertEqual(sorted(os.listdir(self.folder)), ["helper.py", "sample.py"])


class Ends(WorkerTest):
    def test_the_end_of_the_stream_ends_a_process_that_has_nothing_to_do(self) -> None:
        host = self.live(ECHO)
        host.socket.close()
        self.assertNotEqual(host.process.wait(5), 0)

    def test_the_end_of_the_stream_ends_a_process_that_is_busy(self) -> None:
        for body in ("while True: pass", "import time; time.sleep(60)"):
            host = self.live(
                f"""
                from ksi.events import event_handler
                @event_handler("a:b")
                async def busy(data):
                    {body}
                """
            )
            host.call("busy")
            host.ping()
            host.socket.close()
            self.assertNotEqual(host.process.wait(5), 0)

    def test_the_end_of_the_stream_ends_a_process_that_may_signal_nobody(self) -> None:
        host = self.live(
            """
            import os
            def killpg(*_):
                raise PermissionError(1, "refused by a profile")
            os.killpg = killpg
            from ksi.events import event_handler
            @event_handler("a:b")
            async def echo(data):
                return data
            """
        )
        host.socket.close()
        self.assertNotEqual(host.process.wait(5), 0)

    def test_what_it_has_started_ends_with_it(self) -> None:
        host = self.live(
            """
            import subprocess
            from ksi.events import event_handler
            @event_handler("a:b")
            async def starts(data):
                return subprocess.Popen(["sleep", "60"]).pid
            """
        )
        child = host.asked("starts")
        host.socket.close()
        host.process.wait(5)
        for _ in range(500):
            try:
                with open(f"/proc/{child}/stat") as file:
                    if file.read().split()[2] == "Z":
                        break
            except FileNotFoundError:
                break
            time.sleep(0.01)
        else:
            self.fail("the child is still there")

    def test_what_it_starts_has_neither_its_socket_nor_its_input(self) -> None:
        host = self.live(
            """
            import subprocess
            from ksi.events import event_handler
            @event_handler("a:b")
            def descriptors(data):
                listing = ["ls", "-l", "/proc/self/fd"]
                run = subprocess.run(listing, capture_output=True, text=True, close_fds=False)
                return run.stdout
            """
        )
        listed = host.asked("descriptors")
        self.assertIn("0 -> /dev/null", listed)
        self.assertNotIn("socket", listed)

    def test_a_crash_in_c_says_where_python_was(self) -> None:
        host = self.live(
            """
            import ctypes
            from ksi.events import event_handler
            @event_handler("a:b")
            async def crashes(data):
                ctypes.string_at(0)
            """
        )
        host.call("crashes")
        words = host.words()
        self.assertIn("Segmentation fault", words)
        self.assertIn("in crashes", words)
        self.assertEqual(host.process.returncode, -11)

    def test_a_forked_copy_neither_speaks_to_the_host_nor_keeps_its_socket(self) -> None:
        host = self.live(
            """
            import logging, os, sys
            from ksi.events import event_handler
            @event_handler("a:b")
            async def forks(data):
                child = os.fork()
                if child == 0:
                    try:
                        logging.getLogger("x").error("from the copy")
                        links = []
                        for it in os.listdir("/proc/self/fd"):
                            if os.path.exists(f"/proc/self/fd/{it}"):
                                links.append(os.readlink(f"/proc/self/fd/{it}"))
                        os._exit(sum(it.startswith("socket:") for it in links))
                    finally:
                        os._exit(99)
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            """
        )
        # Those of the event loop, which wakes itself by a pair of them.
        self.assertLessEqual(host.asked("forks"), 2)
        self.assertEqual(host.logs(), [])

    def test_a_forked_copy_waits_for_nothing_that_its_host_would_have_to_do(self) -> None:
        host = self.live(
            """
            import asyncio, logging, os, signal, threading, time
            from ksi import _link, events, router
            from ksi.events import EventRefused, event_handler
            def refused(ask):
                try:
                    asyncio.run(ask())
                except EventRefused as error:
                    return error.code == 20 and "a copy" in str(error)
            async def watches():
                async with router.get_router().watch("a:b"):
                    pass
            async def subscribes():
                router.get_router().subscribe("a:b", print)
            @event_handler("a:b")
            def forks(data):
                # As when another thread speaks to the host at that moment.
                lock = _link.current().out._lock
                with lock:
                    child = os.fork()
                if child == 0:
                    signal.alarm(5)
                    logging.getLogger("x").error("from the copy")
                    asks = [lambda: events.emit_event("a:b"), lambda: events.send_event("a:b")]
                    os._exit(sum(map(refused, [*asks, watches, subscribes])))
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            """
        )
        self.assertEqual(host.asked("forks"), 4)
        self.assertEqual(host.logs(), [])

    def test_what_makes_no_sense_ends_it_with_words(self) -> None:
        nonsense = {
            struct.pack("<IBBHQ", 0, 99, 0, 0, 1): "a host sends no frames of kind 99",
            struct.pack("<IBBHQ", 0, 17, 0, 0, 1): "a host sends no frames of kind 17",
            struct.pack("<IBBHQ", 0, 80, 2, 0, 1): "a frame PING has the flags 0x2",
            struct.pack("<IBBHQ", 1 << 30, 80, 0, 0, 1): "has 1073741824 bytes, and may have",
            struct.pack("<IBBHQ", 0, 53, 0, 1, 1): "announces 1 descriptors, and 0 have come",
            struct.pack("<IBBHQ", 1, 16, 0, 0, 1) + b"x": "a frame CALL is shorter",
            struct.pack("<IBBHQ", 1, 22, 0, 0, 1)
            + b"x": "1 bytes follow the end of a frame CANCEL",
            struct.pack("<IBBHQ", 2, 45, 0, 0, 0)
            + b"xy": "1 bytes follow the end of a frame LEVEL",
        }
        for frame, words in nonsense.items():
            host = self.live(ECHO)
            host.socket.sendall(frame)
            self.assertIn(words, host.words())
            self.assertIn("ksi worker: the host says what makes no sense", host.words())

    def test_what_it_cannot_put_together_ends_it_with_words(self) -> None:
        host = self.live(
            """
            from ksi.events import event_handler
            from ksi.worker.inbox import Inbox
            def no_memory(*_):
                raise MemoryError
            @event_handler("a:b")
            async def spoils(data):
                Inbox._frames = no_memory
            """
        )
        host.asked("spoils")
        host.call("spoils")
        self.assertIn("there is no memory for what comes from the host", host.words())

    def test_what_is_no_socket_is_refused(self) -> None:
        command = [sys.executable, "-I", "-B", "-c", BOOTSTRAP]
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.assertIn("the host's socket cannot be had", run.stderr)
        self.assertNotEqual(run.returncode, 0)

    def test_a_shutdown_ends_what_goes_on_and_runs_what_libraries_have_left_to_do(self) -> None:
        path = os.path.join(self.folder, "left")
        host = self.live(
            f"""
            import asyncio, atexit
            from ksi.events import event_handler
            done = []
            atexit.register(lambda: open({path!r}, "w").write(",".join(done)))
            @event_handler("a:b")
            async def waits(data):
                async def work():
                    try:
                        await asyncio.sleep(60)
                    finally:
                        done.append("task")
                asyncio.create_task(work())
                try:
                    await asyncio.sleep(60)
                finally:
                    done.append("call")
            """
        )
        number = host.call("waits")
        host.ping()
        shutdown = host.put("SHUTDOWN")
        self.assertEqual(host.until("FAILED", number).failure()[0], "cancelled")
        host.until("BYE", shutdown)
        self.assertEqual(host.process.wait(10), 0)
        with open(path) as file:
            self.assertEqual(sorted(file.read().split(",")), ["call", "task"])

    def test_pools_that_are_left_open_end_with_it_at_once(self) -> None:
        path = os.path.join(self.folder, "left")
        self.write("import time\ndef work(x):\n    time.sleep(x)\n    return x\n", "helper.py")
        host = self.live(
            f"""
            import asyncio, atexit
            from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
            from ksi.events import event_handler
            import helper
            pools = ProcessPoolExecutor(2), ThreadPoolExecutor(1)
            left = []
            @event_handler("a:use")
            async def use(data):
                loop = asyncio.get_running_loop()
                ends = [await loop.run_in_executor(pool, helper.work, 0) for pool in pools]
                left.extend(pool.submit(helper.work, .2) for pool in pools)
                return ends
            @atexit.register
            def ended():
                with open({path!r}, "w") as file:
                    file.write(repr([it.result(0) for it in left]))
            """,
            python={"path": [self.folder]},
        )
        self.assertEqual(host.asked("use"), [0, 0])
        began = time.monotonic()
        self.assertEqual(host.shut_down(), 0)
        self.assertLess(time.monotonic() - began, 1.5)
        with open(path) as file:
            self.assertEqual(file.read(), "[0.2, 0.2]")

    def test_pools_that_never_end_are_not_waited_for(self) -> None:
        for pool, work in (
            ("ThreadPoolExecutor", "threading.Event().wait"),
            ("ProcessPoolExecutor", "signal.pause"),
        ):
            with self.subTest(pool):
                path = os.path.join(self.folder, pool)
                host = self.live(
                    f"""
                    import atexit, concurrent.futures, signal, threading
                    from ksi.events import event_handler
                    pool = concurrent.futures.{pool}(1)
                    @event_handler("a:use")
                    async def use(data):
                        pool.submit({work})
                    atexit.register(lambda: open({path!r}, "w").close())
                    """
                )
                host.asked("use")
                number = host.put("SHUTDOWN")
                host.ping()
                began = time.monotonic()
                host.until("BYE", number, 4)
                self.assertEqual(host.process.wait(10), 0)
                self.assertLess(time.monotonic() - began, 4)
                self.assertTrue(os.path.exists(path))

    def test_a_detached_instance_takes_calls_and_nothing_else(self) -> None:
        host = self.live(
            """
            import asyncio
            from ksi.events import event_handler, emit_event
            ended = []
            async def background():
                try:
                    await asyncio.sleep(60)
                finally:
                    ended.append(1)
            async def initialize(router):
                asyncio.create_task(background())
                router.subscribe("x:y", lambda data: None)
            async def part():
                return 1
            @event_handler("a:b")
            async def state(data):
                return [ended, await asyncio.gather(part(), part())]
            @event_handler("a:c")
            async def more(data):
                from ksi import get_router
                get_router().subscribe("z:z", lambda data: None)
            """
        )
        self.assertEqual(host.until("SUBSCRIBE").kind, "SUBSCRIBE")
        self.assertEqual(host.asked("state"), [[], [1, 1]])
        self.assertEqual(host.ends(host.put("DETACH")).kind, "NO_REPLY")
        self.assertEqual(host.asked("state"), [[1], [1, 1]])
        code, message = host.ends(host.call("more")).failure()
        self.assertEqual(code, "EventRefused")
        self.assertIn("is being retired and cannot subscribe any more", message)

    def test_a_shutdown_handler_of_run_time_runs_once(self) -> None:
        path = os.path.join(self.folder, "runs")
        module = f"""
            from ksi import get_router
            def initialize(router):
                router.subscribe("module:shutdown", note)
                router.subscribe("system:shutdown", note)
            def note(data):
                with open({path!r}, "a") as file:
                    file.write("once ")
            """
        for detached in (True, False):
            host = self.live(module)
            if detached:
                self.assertEqual(host.ends(host.put("DETACH")).kind, "NO_REPLY")
            self.assertEqual(host.shut_down(), 0)
            with open(path) as file:
                self.assertEqual(file.read(), "once once ")
            os.remove(path)

    def test_print_and_input_are_none_of_the_protocol(self) -> None:
        host = self.live(
            """
            from ksi.events import event_handler
            @event_handler("a:b")
            def asks(data):
                print("hello")
                try:
                    return input()
                except EOFError:
                    return "nothing"
            """
        )
        self.assertEqual(host.asked("asks"), "nothing")


class Logging(WorkerTest):
    MODULE = """
        import asyncio, logging, warnings
        from ksi.events import event_handler
        log = logging.getLogger("sample.part")
        log.warning("while it is imported")
        @event_handler("a:b")
        async def says(data):
            log.debug("detailed")
            log.error("went wrong: %s", data)
            try:
                {}["x"]
            except KeyError:
                log.exception("caught")
        @event_handler("a:c")
        def says_on_a_thread(data):
            log.info("on a thread")
        @event_handler("a:d")
        async def fails_in_the_background(data):
            async def work():
                raise ValueError("in the background")
            asyncio.create_task(work())
            await asyncio.sleep(0.01)
        @event_handler("a:e")
        async def badly(data):
            log.info("%d", "x")
            log.info("x" * 200_000)
    """

    def test_a_line_comes_with_the_call_that_it_belongs_to(self) -> None:
        host = self.live(self.MODULE)
        number = host.call("says", 5)
        host.ends(number)
        lines = host.logs()
        self.assertEqual(lines[0], (0, 2, "sample.part", "while it is imported"))
        self.assertEqual(lines[1], (number, 1, "sample.part", "went wrong: 5"))
        self.assertIn("caught\nTraceback", lines[2][3])
        self.assertEqual(len(lines), 3)
        number = host.call("says_on_a_thread")
        host.ends(number)
        self.assertEqual(host.logs()[-1], (number, 3, "sample.part", "on a thread"))

    def test_lines_wait_until_the_host_takes_them(self) -> None:
        host = self.opens(self.MODULE)
        self.assertEqual(host.logs(), [])
        host.create()
        self.assertEqual(len(host.logs()), 1)

    def test_the_level_may_change(self) -> None:
        host = self.live(self.MODULE)
        host.put("LEVEL", b"\x04", id=0)
        host.asked("says", 1)
        self.assertIn("detailed", [line[3] for line in host.logs()])
        host.put("LEVEL", b"\x00", id=0)
        before = len(host.logs())
        host.asked("says", 1)
        self.assertEqual(len(host.logs()), before)

    def test_patches_of_gevent_that_threads_do_not_survive_are_told(self) -> None:
        monkey = "patched = set()\ndef is_module_patched(name): return name in patched\n"
        self.write(monkey, "packages/gevent/monkey.py")
        for patched, told in (("queue", 1), ("threading", 1), ("socket", 0)):
            source = f"from gevent import monkey\nmonkey.patched.add({patched!r})\n"
            python = {"path": [os.path.join(self.folder, "packages")]}
            lines = [it[3] for it in self.live(source, python=python).logs()]
            self.assertEqual(len(lines), told, lines)
            if told:
                self.assertIn(f"gevent has patched {patched}", lines[0])
                self.assertIn("monkey.patch_all(thread=False, queue=False)", lines[0])

    def test_a_task_that_fails_is_told(self) -> None:
        host = self.live(self.MODULE)
        host.asked("fails_in_the_background")
        host.asked("says")
        self.assertTrue(any("ValueError: in the background" in line[3] for line in host.logs()))

    def test_lines_that_cannot_be_formatted_or_are_too_long_are_told_all_the_same(self) -> None:
        host = self.live(self.MODULE)
        host.asked("badly")
        bad, long = host.logs()[-2:]
        self.assertIn("it cannot be formatted", bad[3])
        self.assertLess(len(long[3]), 70_000)
        self.assertTrue(long[3].endswith("bytes more)"))


class Resources(WorkerTest):
    MODULE = """
        import os, socket
        from ksi import resources
        from ksi.events import event_handler
        @event_handler("a:listen")
        async def listen(data):
            listener = await resources.listen(data)
            return listener.getsockname()[1]
        @event_handler("a:keep")
        async def keep(data):
            ours, theirs = socket.socketpair()
            await resources.keep("pair", theirs)
            ours.sendall(b"hello")
            again = await resources.kept_socket("pair")
            heard = again.recv(5).decode()
            return [heard, await resources.stop_keeping("pair"), await resources.kept("pair")]
    """

    def test_a_listener_comes_from_the_host(self) -> None:
        import socket

        host = self.live(self.MODULE)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            number = host.call("listen", "127.0.0.1:0")
            asked = host.until("LISTEN")
            self.assertEqual(asked.body, text("127.0.0.1:0"))
            host.put("DESCRIPTOR", id=asked.id, descriptor=listener.fileno())
            self.assertEqual(host.ends(number).json(), listener.getsockname()[1])
        number = host.call("listen", "nonsense")
        host.refuse(host.until("LISTEN"), 13, "it is no address")
        self.assertEqual(
            host.ends(number).failure()[1].split("\n")[0], "EventRefused: it is no address"
        )

    def test_a_descriptor_is_kept_and_comes_back(self) -> None:
        host = self.live(self.MODULE)
        number = host.call("keep")
        keep = host.until("KEEP")
        self.assertEqual(keep.body, text("pair"))
        host.put("DONE", id=keep.id)
        kept = host.until("KEPT")
        host.put("DESCRIPTOR", id=kept.id, descriptor=keep.descriptor)
        os.close(keep.descriptor)
        host.put("DONE", id=host.until("STOP_KEEPING").id)
        host.put("NOTHING", id=host.until("KEPT").id)
        self.assertEqual(host.ends(number).json(), ["hello", True, None])


if __name__ == "__main__":
    unittest.main()

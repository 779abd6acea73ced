"""The plugins of a folder in plain pluggy: what is asked, and what comes of it, a JSON list.

Usage: ``python pluggy_plain.py FOLDER SAID CALLS``, run by ``test_pluggy``. It does by hand what
the project's file says, and knows nothing of this package.
"""

import importlib
import importlib.util
import json
import os
import sys

import pluggy


def main() -> None:
    folder, said, calls = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    sys.path.insert(0, folder)
    manager = pluggy.PluginManager(said["project"])
    for blocked in said.get("block", []):
        manager.set_blocked(blocked)
    manager.add_hookspecs(importlib.import_module(said["hookspecs"]))
    plugins = os.path.join(folder, said["plugins"][0])
    later = said.get("later", [])

    def register(name):
        file = f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, os.path.join(plugins, file))
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        manager.register(module, name)

    for file in sorted(os.listdir(plugins)):
        name = os.path.splitext(file)[0]
        if name not in later:
            register(name)
    ends = []
    for hook, arguments in calls:
        if hook == "later":
            for name in later:
                register(name)
            continue
        caller = getattr(manager.hook, hook)
        try:
            if caller.is_historic():
                result = []
                caller.call_historic(result_callback=result.append, kwargs=arguments)
            else:
                result = caller(**arguments)
            ends.append(["result", result])
        except Exception as error:
            ends.append(["error", type(error).__name__])
    print(json.dumps(ends))


main()

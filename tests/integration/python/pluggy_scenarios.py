"""Writes the scenarios of the package's own tests of pluggy as plugins of a host, and asks plain
pluggy what comes of them: a JSON list.

Usage: ``python pluggy_scenarios.py PACKAGE PLUGINS``.
"""

import json
import os
import subprocess
import sys
import textwrap

package, plugins = sys.argv[1:]
sys.path[:0] = [package, os.path.join(package, "src")]

from tests.test_pluggy import SAID, SCENARIOS, SPECS, TRACE  # noqa: E402


def write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(textwrap.dedent(text))


told = []
for number, (name, (files, calls, more)) in enumerate(SCENARIOS.items()):
    prefix = f"scenario{number}"
    folder = os.path.join(plugins, prefix)
    write(f"{folder}/eggspecs.py", SPECS)
    for file, text in {**files, "z_order": TRACE}.items():
        write(f"{folder}/plugins/{file}.py", text)
    calls = [*calls, ["order", {}]]
    said = {**SAID, **more}
    plain = os.path.join(package, "tests", "pluggy_plain.py")
    command = [sys.executable, "-B", plain, folder, json.dumps(said), json.dumps(calls)]
    ends = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    # Texts and lists of them are the same in TOML.
    lines = [f"{key} = {json.dumps(value)}" for key, value in {**said, "prefix": prefix}.items()]
    head = ["[tool.ksi]", "kind = 'pluggy'", "[tool.ksi.pluggy]"]
    write(f"{folder}/pyproject.toml", "\n".join([*head, *lines]) + "\n")
    told.append({"name": name, "prefix": prefix, "calls": calls, "plain": ends})
print(json.dumps(told))

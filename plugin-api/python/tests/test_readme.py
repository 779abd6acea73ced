"""What the README shows does what it says."""

import os
import re
import subprocess
import sys
import unittest

from . import SOURCES
from .host import WorkerTest

README = os.path.join(os.path.dirname(SOURCES), "README.md")


class Readme(WorkerTest):
    def setUp(self) -> None:
        super().setUp()
        with open(README) as file:
            self.examples = re.findall(r"```python\n(.*?)```", file.read(), re.DOTALL)

    def test_its_module_runs_without_a_host(self) -> None:
        path = self.write("\n".join(self.examples), "stock.py")
        subprocess.run([sys.executable, "-B", path], check=True, env={"PYTHONPATH": SOURCES})

    def test_its_module_runs_in_a_worker(self) -> None:
        host = self.live(self.examples[0])
        self.assertEqual(host.asked("add", {"article": "nut", "count": 3}), {"count": 3})


if __name__ == "__main__":
    unittest.main()

"""Tests: ``python3 -m unittest`` in the folder above this one."""

import os
import sys

SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")
sys.path.insert(0, SOURCES)

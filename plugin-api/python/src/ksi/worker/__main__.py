"""``python -m ksi.worker``: the process of a plugin, whose standard input is the host's socket."""

from . import main

main()

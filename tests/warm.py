"""A process in which the command is imported, and nothing else has happened: each run of the command is a fork of it.

What it is asked for comes by the socket that its standard input is, a line of JSON behind the descriptors that the run is
to have; it answers with the id of the process, and with its exit status once that has ended. `command.py` asks.
"""

import gc
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
import time
from importlib import import_module

import gitstate


def become(asked: dict, descriptors: list[int]) -> None:
    """Makes this process what a shell would have started: its folder, its environment, its three files and no other."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, max(descriptors) + 1)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    sys.argv[1:] = asked["arguments"]
    sys.path[0] = os.getcwd()  # as `python -m` does
    signal.signal(signal.SIGINT, signal.default_int_handler)


def serve(asking: socket.socket) -> bool:
    """Forks for each line; True in a process that is to run the command, False where nobody asks any more."""
    while True:
        first, descriptors, *_ = socket.recv_fds(asking, 1, 3)
        if not first:
            return False
        with asking.makefile("rb") as lines:
            asked = json.loads(lines.readline())
        pid = os.fork()
        if not pid:
            asking.close()
            become(asked, descriptors)
            return True
        for descriptor in descriptors:
            os.close(descriptor)
        asking.sendall(b"%d\n" % pid)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        asking.sendall(b"%d\n" % status)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks; with them it ends
    with socket.socket(fileno=os.dup(0)) as from_tests:
        for module in pkgutil.walk_packages(gitstate.__path__, "gitstate."):
            if not module.name.endswith("__main__"):
                import_module(module.name)
        gc.freeze()
        is_run = serve(from_tests)
    if is_run:
        runpy.run_module("gitstate", run_name="__main__", alter_sys=True)

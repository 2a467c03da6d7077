"""Forked processes, and what they must not share with their worker: signal handlers, listeners, connections.

A forked child inherits the worker's signal handlers, and the descriptor by which they wake the event loop. So a signal
to the child (`Process.terminate()`, the end of a `Pool`) would drain the worker. And while the child has a copy of a
socket, the other side does not see that the worker has closed it. A child that runs another program (exec) inherits
neither.
"""

import os
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any


def release_in_children(handlers: Mapping[signal.Signals, Any], sockets: Callable[[], Iterable[int]]) -> None:
    """Let children that are forked from now on begin without `handlers`, and without the descriptors of `sockets`.

    A handler that the application has installed instead of ours stays. Signals to a child wait until then.
    """
    masks: list[set[Any]] = []  # of the forking thread, the only one that runs meanwhile

    def hold() -> None:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, handlers))

    def go_on() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

    def release() -> None:
        with suppress(ValueError):  # a subinterpreter has no signal handlers
            signal.set_wakeup_fd(-1)
            for signum, ours in handlers.items():
                if signal.getsignal(signum) == ours:
                    signal.signal(signum, DEFAULTS.get(signum, signal.SIG_DFL))
        # They are not closed: objects of the child would later close other files that got the same numbers.
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd in sockets():
            if fd >= 0:
                os.dup2(null, fd, inheritable=False)
        os.close(null)
        go_on()

    os.register_at_fork(before=hold, after_in_parent=go_on, after_in_child=release)


DEFAULTS = {signal.SIGINT: signal.default_int_handler}
"""The handlers that Python begins with, where they are not SIG_DFL."""

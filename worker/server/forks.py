"""What a process that the application forks must not share with its worker: signal handling, listeners, clients.

A forked child has the worker's handlers and the descriptor that they wake the event loop by: without this, a signal to
the child (`Process.terminate()`, the end of a `Pool`) drains the worker. And as long as the child has a copy of a
socket, nobody sees that the worker has closed it. A child that another program replaces (exec) has neither.
"""

import os
import signal
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any


def release_in_children(handlers: Mapping[signal.Signals, Any], sockets: Callable[[], Iterable[int]]) -> None:
    """Let each child that is forked from now on begin without `handlers`, and without the descriptors of `sockets`.

    A handler that the application has put in the place of ours stays. Signals to a child wait until it is released.
    """
    masks: list[set[Any]] = []  # of the thread that forks; no other one runs meanwhile

    def hold() -> None:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, handlers))

    def go_on() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

    def release() -> None:
        with suppress(ValueError):  # of a subinterpreter, which has none
            signal.set_wakeup_fd(-1)
            for signum, ours in handlers.items():
                if signal.getsignal(signum) == ours:
                    signal.signal(signum, DEFAULTS.get(signum, signal.SIG_DFL))
        # Not closed: objects of the child still have these numbers, and would close what gets them next.
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for fd in sockets():
            if fd >= 0:
                os.dup2(null, fd, inheritable=False)
        os.close(null)
        go_on()

    os.register_at_fork(before=hold, after_in_parent=go_on, after_in_child=release)


DEFAULTS = {signal.SIGINT: signal.default_int_handler}
"""What Python begins with, where that is not SIG_DFL."""

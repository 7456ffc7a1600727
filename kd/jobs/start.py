"""Start a job: `python -m kd.jobs.start MODULE ARGUMENT...` does what `python -m MODULE ARGUMENT...` does, but faster.

Importing torch and timm takes seconds; a fork of a process that has imported them takes none. Where such a process
is at hand (`kd.jobs.preloaded`), it is asked for a fork that runs the module with the arguments, environment, folder
and standard streams of this process. This one passes on the signals that it gets, and ends as the fork ends. Without
one, it becomes `python -m MODULE`. It imports nothing but the standard library, so that it starts at once.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from contextlib import suppress

ADDRESS = "KD_PRELOADED"  # environment variable: the name of an abstract socket
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCONT)
LENGTH = struct.Struct("!I")
REFUSED, STARTED = b"refused", b"started"
NO_SERVER = "error: the process that this job was forked from has ended; run again"


def main() -> None:
    """Run a module in a fork of the preloaded process or, without one, in this process."""
    module, *arguments = sys.argv[1:]
    address = os.environ.get(ADDRESS)
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect("\0" + address)
            if peer(connection) == os.getuid():
                _run_in_fork(connection, module, arguments)
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def peer(connection: socket.socket) -> int:
    """User id of the process at the other end: anybody can see, and take, the name of an abstract socket."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return int(user)


def _run_in_fork(connection: socket.socket, module: str, arguments: list[str]) -> None:
    """Returns only if the other process refuses, or has ended before it started anything."""
    umask = os.umask(0o077)
    os.umask(umask)
    request = {
        "module": module,
        "arguments": arguments,
        "folder": os.getcwd(),  # noqa: PTH109 - pathlib takes time to import
        "umask": umask,
        "environment": dict(os.environ),
        "python": [sys.prefix, sys.version],
    }
    body = json.dumps(request).encode("utf-8", "surrogateescape")
    socket.send_fds(connection, [LENGTH.pack(len(body))], [0, 1, 2])
    connection.sendall(body)
    replies, passed_on = _pass_on_signals(connection)
    said, _, status = replies.partition(b"\n")
    what, _, process = said.partition(b" ")
    if what != STARTED:
        for number in passed_on:
            os.kill(os.getpid(), number)
        return
    if not status:
        with suppress(ProcessLookupError):
            os.killpg(int(process), signal.SIGKILL)
        sys.exit(NO_SERVER)
    _end_as(int(status))


def _pass_on_signals(connection: socket.socket) -> tuple[bytes, bytes]:
    """Pass signals on until the server has closed the connection: when the job has ended, or was refused.

    Handlers in Python may run late: if a signal comes just before a wait, only after it. So they do nothing, and the
    wait ends at the byte that the interpreter writes for each signal at once.

    Args:
        connection: to the server.

    Returns:
        What the server said, and the numbers of the signals that were passed on, a byte each.
    """
    woken, waker = socket.socketpair()
    for each in (woken, waker, connection):
        each.settimeout(0)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    # Also those that are ignored here, as under nohup: whether the job ignores them, too, is its own matter.
    before = {number: signal.signal(number, lambda *_: None) for number in PASSED_ON}
    replies, passed_on, part = b"", b"", None
    while part != b"":
        ready, _, _ = select.select([woken, connection], [], [])
        if woken in ready:
            numbers = woken.recv(64)
            passed_on += numbers
            with suppress(OSError):
                connection.send(numbers)
            if signal.SIGTSTP in numbers and before[signal.SIGTSTP] != signal.SIG_IGN:
                os.kill(os.getpid(), signal.SIGSTOP)
        if connection in ready:
            try:
                part = connection.recv(64)
            except ConnectionError:
                part = b""
            replies += part
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.set_wakeup_fd(-1)
    return replies, passed_on


def _end_as(code: int) -> None:
    """End with an exit code or, if it is negative, by that signal."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the fork has left a core file, if there has to be one
        with suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()

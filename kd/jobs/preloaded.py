"""A process that has imported what jobs import, and forks one for each job that `kd.jobs.start` asks for.

Modules of kd itself are not among them: each job imports those as they are when it starts. Nothing here computes or
touches CUDA, neither of which would survive a fork. Linux only, for its abstract sockets, which leave no files.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import secrets
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from kd.jobs.start import ADDRESS, LENGTH, REFUSED, STARTED, peer

PRELOADED = (
    *("torch", "torchvision.transforms.v2", "timm", "timm.optim", "lightning_fabric", "safetensors.torch"),
    *("zarr", "numcodecs", "google_crc32c", "numpy", "pandas", "scipy.special", "pydantic", "annotated_types"),
    *("huggingface_hub", "yaml", "PIL.Image", "tqdm", "threadpoolctl"),
    *("matplotlib.pyplot", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg"),
)
TO_THE_GROUP = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCONT)  # as a terminal sends them
SECONDS_TO_ASK = 30.0
# Variables that are read while a job runs, and not by the import of a package.
FREE = {
    *("_", "CUDA_VISIBLE_DEVICES", "SHLVL", "PATH", "PWD", "OLDPWD", "TMPDIR", "TMP", "TEMPDIR", "TEMP"),
    "VECLIB_MAXIMUM_THREADS",
}
THREADS = "OMP_NUM_THREADS"


def preload(pythonpath: str, modules: tuple[str, ...] = PRELOADED) -> dict[str, str]:
    """Start the process, for the jobs of this one. It ends with this one, at the latest when its last job has ended.

    Args:
        pythonpath: PYTHONPATH of the jobs.
        modules: what is imported ahead of them.

    Returns:
        What the jobs need to have in their environment; nothing if this process has it from another one.
    """
    if not sys.platform.startswith("linux") or os.environ.get(ADDRESS):
        return {}
    address = f"kd-{secrets.token_hex(16)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("\0" + address)
        listener.listen(128)
        process = subprocess.Popen(
            [sys.executable, "-m", "kd.jobs.preloaded", str(listener.fileno()), *modules],
            env=os.environ | {"PYTHONPATH": pythonpath},
            stdin=subprocess.PIPE,  # its end says that this process has ended, however it did
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,  # a terminal's Ctrl-C is not for it
        )
    atexit.register(_end, process)
    return {ADDRESS: address}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):  # it lets its jobs end, whoever waits for them
        process.wait(1)


class Request(NamedTuple):
    """A job's command and the surroundings that it runs in."""

    module: str
    arguments: list[str]
    folder: str
    umask: int
    environment: dict[str, str]
    python: list[str]


class Server:
    """Forks jobs until its standard input ends, and then waits for the last of them."""

    def __init__(self, listener: socket.socket, environment: dict[str, str]) -> None:
        """`environment`: from before packages were imported, some of which add to it."""
        self.listener = listener
        self.environment = environment
        self.added = {name: value for name, value in os.environ.items() if environment.get(name) != value}
        self.jobs: dict[int, socket.socket] = {}
        self.closing = False
        self.selector = selectors.DefaultSelector()
        self.woken, self.waker = socket.socketpair()
        for each in (listener, self.woken, self.waker):
            each.settimeout(0)
        self.handlers = {
            signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda *_: None),
            signal.SIGTERM: signal.signal(signal.SIGTERM, self._close),
        }
        signal.set_wakeup_fd(self.waker.fileno(), warn_on_full_buffer=False)

    def serve(self) -> Request | None:
        """Returns in each fork what it is to run; in this process None, when it is to end."""
        self.selector.register(self.woken, selectors.EVENT_READ)
        self.selector.register(sys.stdin, selectors.EVENT_READ)
        self.selector.register(self.listener, selectors.EVENT_READ)
        while self.jobs or not self.closing:
            for key, _ in self.selector.select():
                if key.fileobj is self.woken:
                    self.woken.recv(4096)
                elif key.fileobj is sys.stdin:
                    self.selector.unregister(sys.stdin)
                    self._close()
                elif key.fileobj is self.listener:
                    if (request := self._accept()) is not None:
                        return request
                else:
                    self._pass_on(key.data, key.fileobj)
            self._reap()
        return None

    def _close(self, *_: object) -> None:
        """Take no more jobs."""
        if not self.closing:
            self.closing = True
            self.selector.unregister(self.listener)
            self.listener.close()

    def _accept(self) -> Request | None:
        """Fork; returns in the fork alone."""
        try:
            connection, _ = self.listener.accept()
        except OSError:  # it has ended meanwhile
            return None
        connection.settimeout(SECONDS_TO_ASK)
        try:
            if peer(connection) != os.getuid():
                raise PermissionError
            request, streams = _receive(connection)
        except (OSError, ValueError):
            connection.close()
            return None
        if request.python != [sys.prefix, sys.version] or given(request.environment) != given(self.environment):
            _say(connection, REFUSED)
            connection.close()
            for stream in streams:
                os.close(stream)
            return None
        signals = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        child = os.fork()
        if not child:
            self._leave(connection)
            _take_over(request, streams)
            os.environ.update(self.added)
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
            return request
        with suppress(OSError):  # whichever of the two comes first
            os.setpgid(child, child)
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        for stream in streams:
            os.close(stream)
        self.jobs[child] = connection
        self.selector.register(connection, selectors.EVENT_READ, child)
        _say(connection, b"%s %d" % (STARTED, child))
        return None

    def _leave(self, connection: socket.socket) -> None:
        """In a fork: have nothing more to do with the server and its other jobs."""
        signal.set_wakeup_fd(-1)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.selector.close()
        for each in (connection, self.listener, self.woken, self.waker, *self.jobs.values()):
            each.close()

    def _pass_on(self, child: int, connection: Any) -> None:
        """Send a job the signals that whoever asked for it got, SIGKILL when that has ended."""
        try:
            numbers = connection.recv(64)
        except OSError:
            numbers = b""
        if not numbers:
            self.selector.unregister(connection)
        for number in numbers or [signal.SIGKILL]:
            with suppress(ProcessLookupError):
                if number in TO_THE_GROUP or not numbers:
                    os.killpg(child, number)
                else:
                    os.kill(child, number)

    def _reap(self) -> None:
        """Say of each job that has ended how it did."""
        while self.jobs:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                return
            connection = self.jobs.pop(child)
            with suppress(KeyError):  # it has not asked to know
                self.selector.unregister(connection)
            _say(connection, b"%d" % os.waitstatus_to_exitcode(status))
            connection.close()


def _receive(connection: socket.socket) -> tuple[Request, list[int]]:
    header, streams, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
    try:
        (left,) = LENGTH.unpack(header)
        body = b""
        while len(body) < left:
            part = connection.recv(left - len(body))
            if not part:
                raise EOFError
            body += part
        return Request(**json.loads(body.decode("utf-8", "surrogateescape"))), streams
    except (EOFError, OSError, struct.error, ValueError, TypeError) as error:
        for stream in streams:
            os.close(stream)
        raise ValueError("no request") from error


def _say(connection: socket.socket, text: bytes) -> None:
    with suppress(OSError):  # it has ended: nobody listens
        connection.sendall(text + b"\n")


def given(environment: dict[str, str]) -> dict[str, str]:
    """Settings that packages may read while they are imported; a job with others needs a process of its own."""
    return {
        name: value
        for name, value in environment.items()
        if name not in FREE and not name.startswith("KD_") and not name.endswith("_NUM_THREADS")
    }


def _take_over(request: Request, streams: list[int]) -> None:
    """In a fork: be in the surroundings of the process that asked, as if it had been started there."""
    os.setpgid(0, 0)
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    for target, (name, mode) in enumerate((("stdin", "rb"), ("stdout", "wb"), ("stderr", "wb"))):
        old, binary = getattr(sys, name), open(target, mode, closefd=False)  # noqa: SIM115 - as long as the process lives
        new = io.TextIOWrapper(binary, old.encoding, old.errors, line_buffering=name == "stderr" or os.isatty(target))
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    os.chdir(request.folder)
    os.umask(request.umask)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.path[0] = request.folder
    sys.argv = [request.module, *request.arguments]
    _use_threads()


def _use_threads() -> None:
    """Apply OMP_NUM_THREADS and its like, which libraries read when loaded; Snakemake sets them all to one number."""
    wanted = os.environ.get(THREADS, "")
    if wanted.isdecimal() and int(wanted):
        threads = min(int(wanted), len(os.sched_getaffinity(0)))
        if "threadpoolctl" in sys.modules:
            sys.modules["threadpoolctl"].threadpool_limits(threads)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)


def main() -> None:
    """Import, serve; in a fork, run what was asked for."""
    listener, environment = socket.socket(fileno=int(sys.argv[1])), dict(os.environ)
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.freeze()
    if (request := Server(listener, environment).serve()) is not None:
        _run(request.module)


def _run(module: str) -> NoReturn:
    """Run a module, and end as an interpreter does; but take nothing apart, which would copy all that forks share."""
    status, interrupted = 0, False
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        if isinstance(error.code, str):
            sys.stderr.write(f"{error.code}\n")
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:  # noqa: BLE001 - this is where an interpreter catches them
        sys.excepthook(type(error), error, error.__traceback__)
        status, interrupted = 1, isinstance(error, KeyboardInterrupt)
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - waits for threads, as does multiprocessing
    atexit._run_exitfuncs()  # noqa: SLF001
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status & 0xFF)


if __name__ == "__main__":
    main()

"""Processes for tests, forked from a server that has imported everything: a tenth of a second instead of five each."""

import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

ROOT = Path(__file__).resolve().parents[1]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["torch", "art_ext.cli", "art_ext.comparison", "tests.engine.sharded"])


class Forked:
    """A running ``python WORDS``; WORDS are ``-m module …``, ``-c code …`` or ``script …``.

    Args:
        words: of the command line.
        environment: variables beside those of this process.
    """

    def __init__(self, *words: str, environment: Mapping[str, str] | None = None) -> None:
        self.folder = tempfile.TemporaryDirectory()
        told = dict(os.environ) | {"OMP_NUM_THREADS": "1"} | dict(environment or {})
        self.process = FORKS.Process(target=_be_python, args=(list(words), told, self.folder.name))
        self.process.start()
        assert self.process.pid is not None
        self.pid: int = self.process.pid

    def said(self, stream: str) -> str:
        """What it has written so far to ``"stdout"`` or ``"stderr"``."""
        file = Path(self.folder.name, stream)
        return file.read_text() if file.exists() else ""

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float = 300) -> CompletedProcess[str]:
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"still running after {timeout} s: {self.said('stderr')[-2000:]}")
        ended = CompletedProcess([], self.process.exitcode, self.said("stdout"), self.said("stderr"))
        self.folder.cleanup()
        return ended


def python(*words: str, environment: Mapping[str, str] | None = None) -> CompletedProcess[str]:
    """Run ``python WORDS`` to its end."""
    return Forked(*words, environment=environment).wait()


def processes(*words: str, count: int = 2) -> CompletedProcess[str]:
    """So many of one ``python WORDS`` that find each other as those of ``torchrun`` do; the first failure ends all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(count)}
    ranks = [{"RANK": str(n), "LOCAL_RANK": str(n), "LOCAL_WORLD_SIZE": str(count)} for n in range(count)]
    started = [Forked(*words, environment=meeting | rank) for rank in ranks]
    while any(one.poll() is None for one in started) and not any(one.poll() for one in started):
        time.sleep(0.02)
    time.sleep(0.5 if any(one.poll() for one in started) else 0)  # others may be ending by themselves
    for one in started:
        if one.poll() is None:
            one.process.terminate()
    ended = [one.wait() for one in started]
    code = next((one.returncode for one in ended if one.returncode), 0)
    return CompletedProcess([], code, *("".join(getattr(one, s) for one in ended) for s in ("stdout", "stderr")))


def _be_python(words: list[str], environment: dict[str, str], folder: str) -> None:
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # this process's own default, as in a fresh one
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT), stream)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1) for n in (1, 2))
    import torch

    torch.set_num_threads(1)
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<code>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")

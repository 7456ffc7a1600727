"""Files of pretrained weights on the Hugging Face hub, and whether it can be reached. Imports no torch."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    get_session,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

from kd.artefacts.disk import ADVICE
from kd.artefacts.files import file_digest
from kd.common.errors import UserError

T = TypeVar("T")
FILES = ("model.safetensors", "pytorch_model.bin")  # as timm stores weights there, in the order that it prefers
# For the first answer, by the variable that huggingface_hub has for it, which itself would try again for a minute.
TIMEOUT = "HF_HUB_ETAG_TIMEOUT"
SECONDS = float(os.environ.get(TIMEOUT) or 1.5)
REMEDY = (
    "run the target `prefetch` where there is a network; HF_HOME may name a folder that has them, HF_ENDPOINT a mirror"
)


def hub_file(repository: str) -> Path:
    """The file of weights in a repository of the hub, OWNER/NAME or OWNER/NAME@REVISION: if not cached, downloaded.

    Raises:
        UserError: it cannot be had, or is damaged.
    """
    name, _, revision = repository.partition("@")
    where: dict[str, Any] = {"repo_id": name, "revision": revision or None}
    cached = (try_to_load_from_cache(filename=each, **where) for each in FILES)
    found = next((Path(each) for each in cached if isinstance(each, str)), None)
    if found is None:
        found = try_network(f"{constants.ENDPOINT}/{repository}", partial(_download, where))
    # Files in the cache lie under the sha256 that the hub says of them, but nobody has compared it.
    stored = found.resolve()
    if re.fullmatch("[0-9a-f]{64}", stored.name) and file_digest(stored) != stored.name:
        raise UserError(f"{stored}: is damaged, its sha256 is not its name; delete it and run again")
    return found


def _download(where: dict[str, Any]) -> Path:
    for name in FILES:
        url = hf_hub_url(filename=name, **where)
        try:
            within(SECONDS, partial(get_hf_file_metadata, url, timeout=SECONDS))
        except EntryNotFoundError:
            continue
        return Path(hf_hub_download(filename=name, **where))
    raise UserError(f"holds none of {', '.join(FILES)}")


def try_network(what: str, get: Callable[[], T]) -> T:
    """Get something from the network.

    Raises:
        UserError: that failed; the text is one line with `what`, the reason and what to do.
    """
    try:
        return get()
    except Exception as error:
        if isinstance(error, OSError) and error.errno in ADVICE:  # a full disk, say
            raise
        raise UserError(f"{what}: {reason(error)}; {REMEDY}") from error


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Give up connections that are silent for so long, also those of libraries that would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def reason(error: Exception) -> str:
    """Why something could not be got, in a few words: hubs and libraries write paragraphs."""
    if isinstance(error, HfHubHTTPError):
        return f"answers {error.response.status_code} {error.response.reason_phrase}".strip()
    cause = error
    while isinstance(cause.__cause__ or cause.__context__, Exception):
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    text = str(error if isinstance(error, UserError) else cause).strip() or type(cause).__name__
    return text.splitlines()[0].rstrip(".")


def within(seconds: float, get: Callable[[], T]) -> T:
    """The answer of `get`, given up after a time: looking up the name of a host knows no limit of its own.

    Raises:
        TimeoutError: there was none by then.
    """
    answer = Future[T]()

    def run() -> None:
        try:
            answer.set_result(get())
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # an executor's thread would be waited for when all ends
    if not wait([answer], seconds).done:
        raise TimeoutError(f"no answer within {seconds:g} s ({TIMEOUT} sets how long to wait)")
    return answer.result()


def check_network(architectures: Collection[str]) -> None:
    """Refuse pretrained weights of architectures of timm at once where there is no network, unless they may be cached.

    Raises:
        UserError: the hub gives no answer, of whatever kind.
    """
    lacking = sorted(each for each in architectures if not _may_be_cached(each))
    if lacking:
        what = f"models: pretrained weights of {', '.join(lacking)}: {constants.ENDPOINT}"
        ask = partial(get_session().head, constants.ENDPOINT, timeout=SECONDS)
        try_network(what, partial(within, SECONDS, ask))


def _may_be_cached(architecture: str) -> bool:
    """Some repository of such a name is; which one is meant, only timm knows, and that takes seconds to import."""
    name = architecture if "." in architecture else f"{architecture}[.]*"
    folders = [f"models--*--{name}", f"models--*--{architecture}"]
    return any(
        next(Path(constants.HF_HUB_CACHE).glob(f"{folder}/snapshots/*/{file}"), None) is not None
        for folder in folders
        for file in FILES
    )

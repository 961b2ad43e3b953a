"""Ask the Hugging Face hub, its cache on this machine first; without a way to it the answer is an error at once."""

import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TypeVar
from urllib.parse import urlsplit

import huggingface_hub.constants

__all__ = ["from_hub", "hub_address"]

PATIENCE = 0.5
"""Seconds that a connection to the hub may take; its own client tries for half a minute before it gives up."""

Fetched = TypeVar("Fetched")


def hub_address() -> str:
    """Return the hub's address, which the environment can change."""
    address: str = huggingface_hub.constants.ENDPOINT
    return address


def from_hub(fetch: Callable[[], Fetched]) -> Fetched:
    """Return what ``fetch`` gets with the hub's client: from the cache, or else from the hub.

    Raises
    ------
    OSError
        If it is not in the cache and the hub cannot be reached, or does not have it.
    """
    try:
        with _offline():
            return fetch()
    except OSError:
        _reach_hub()
        return fetch()


@contextmanager
def _offline() -> Iterator[None]:
    """Let the hub's client look into its cache only."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before


def _reach_hub() -> None:
    """Raise OSError at once if there is no way to the hub, or to the proxy that stands before it."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    hub = urlsplit(hub_address())
    proxies = {} if urllib.request.proxy_bypass(hub.hostname or "") else urllib.request.getproxies()
    proxy = proxies.get(hub.scheme) or proxies.get("all")
    gate = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else hub
    address = gate.hostname or "", gate.port or (443 if gate.scheme == "https" else 80)
    failures: list[OSError | None] = []

    def connect() -> None:
        try:
            socket.create_connection(address, PATIENCE).close()
        except OSError as error:
            failures.append(error)
        else:
            failures.append(None)

    # In a thread of its own: nothing limits the time that looking up a name takes.
    attempt = Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(PATIENCE)
    failure = failures[0] if failures else TimeoutError(f"no answer from {address[0]} in {PATIENCE} s")
    if failure is not None:
        raise failure

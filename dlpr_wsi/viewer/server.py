"""Runs the viewer: ``dlpr-wsi serve``."""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from dlpr_wsi.errors import MissingDependencyError, UsageError

try:
    import uvicorn

    from dlpr_wsi.viewer.app import Settings, create_app
    from dlpr_wsi.viewer.guard import GuardedProtocol
except MissingDependencyError:
    raise
except ImportError as error:
    raise MissingDependencyError(error.name or "a package", "viewer") from error

from dlpr_wsi.reversible.catalogue import Catalogue, reversible_among
from dlpr_wsi.reversible.originals import MakingCache
from dlpr_wsi.sources import Selection
from dlpr_wsi.viewer.engine import ChunkEngine
from dlpr_wsi.viewer.images import open_images

__all__ = ["is_loopback", "serve"]


def serve(
    paths: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    open_browser: bool = False,
    cache_mb: int = 512,
    threads: int | None = None,
    allow_origin: Sequence[str] = (),
    selection: Selection | None = None,
) -> None:
    """Show archives and slides in a browser until interrupted.

    Parameters
    ----------
    paths : sequence of Path
        Archives and slides; nothing else is readable through the server.
    host : str
        Address to listen on. Any other than a loopback address lets other machines in, and a warning says so.
    port : int
        TCP port; 0 picks a free one.
    open_browser : bool
        Open the page.
    cache_mb : int
        Bound on decoded chunks kept, MB.
    threads : int, optional
        Threads to decode with; by default one for each CPU.
    allow_origin : sequence of str
        Origins of other sites whose pages may read tiles (CORS).
    selection : Selection, optional
        Which picture of slides that hold several.

    Raises
    ------
    dlpr_wsi.errors.WsiError
        A path cannot be opened, or the address cannot be used.
    """
    listener = _listen(host, port)
    try:
        images = open_images(paths, selection)
        engine = ChunkEngine(cache_mb * 1_000_000, threads)
        originals = Catalogue(reversible_among(paths), MakingCache(cache_mb * 250_000), threads, strict=False)
        try:
            local = is_loopback(host)
            settings = Settings(hosts=(host,) if local else None, origins=tuple(allow_origin))
            url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/"
            logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
            if not local:
                print(
                    f"warning: {host} is not a loopback address: everybody who can reach this machine can see "
                    "these images; there is no password and no encryption",
                    file=sys.stderr,
                )
            for image in images.images.values():
                print(f"{image.store.name}  {url}view?image={image.id}")
            for name in originals.names("") or ():
                print(f"{name}  {url}files/{quote(name, errors='surrogateescape')}")
            print(f"serving {url}  (Ctrl-C ends it)", flush=True)
            server = uvicorn.Server(
                uvicorn.Config(
                    create_app(images, engine, settings, originals),
                    http=GuardedProtocol,
                    ws="none",
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    timeout_keep_alive=15,
                    timeout_graceful_shutdown=3,
                )
            )
            if open_browser:
                threading.Thread(target=_open, args=(server, url), daemon=True).start()
            server.run(sockets=[listener])
        finally:
            engine.close()
            images.close()
            originals.close()
    finally:
        listener.close()


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a server that listens on an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; a port that is taken is found here, before archives are opened."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1024)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise UsageError("--host/--port", f"cannot listen on {host} port {port}: {error}") from error
    return listener


def _open(server: uvicorn.Server, url: str) -> None:
    """Open the page as soon as the server answers."""
    for _ in range(100):
        if server.started:
            with suppress(webbrowser.Error):
                webbrowser.open(url)
            return
        time.sleep(0.1)

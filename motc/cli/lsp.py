"""`motc lsp`: the language server, for editors."""

from __future__ import annotations

import os

from motc.cli.output import Stop


def run() -> None:
    """Serve an editor by the Language Server Protocol, on stdin and stdout; docs/editor.md says how to set one up."""
    try:
        from motc.lsp.server import Server
    except ModuleNotFoundError as error:
        if error.name not in ("pygls", "lsprotocol"):
            raise
        raise Stop(1, "the language server needs pygls: pip install 'motc[lsp]'") from None
    streams = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")  # which it closes
    Server().connection.start_io(*streams)

"""A session with the language server, by a client that speaks the protocol: what an editor does and is shown."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest_lsp = pytest.importorskip("pytest_lsp")

from lsprotocol import types  # noqa: E402
from pytest_lsp import ClientServerConfig, LanguageClient  # noqa: E402

pytestmark = pytest.mark.compiled

BASE = """model base {
  width = 64
  layers = 4
  modality text { vocab = 256 }
  modality image { vocab = 512 }
  attention { heads = 4 }
}
"""
OVER = """model over {
  extends "base.mot"
  untie ffn
}
"""


@pytest_lsp.fixture(config=ClientServerConfig(server_command=[sys.executable, "-m", "motc", "lsp"]))
async def client(lsp_client: LanguageClient) -> AsyncIterator[None]:
    await lsp_client.initialize_session(
        types.InitializeParams(capabilities=types.ClientCapabilities(), workspace_folders=[])
    )
    yield
    await lsp_client.shutdown_session()


@pytest.mark.asyncio
async def test_a_session(client: LanguageClient, tmp_path: Path) -> None:
    (tmp_path / "base.mot").write_text(BASE, encoding="utf-8")
    path = tmp_path / "over.mot"
    uri = path.as_uri()
    client.text_document_did_open(
        types.DidOpenTextDocumentParams(
            text_document=types.TextDocumentItem(uri=uri, language_id="motc", version=1, text=OVER)
        )
    )
    await client.wait_for_notification(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    assert not client.diagnostics[uri]
    place = types.Range(start=types.Position(2, 8), end=types.Position(2, 11))
    client.text_document_did_change(
        types.DidChangeTextDocumentParams(
            text_document=types.VersionedTextDocumentIdentifier(uri=uri, version=2),
            content_changes=[types.TextDocumentContentChangePartial(range=place, text="fnn")],
        )
    )
    await client.wait_for_notification(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    (mistake,) = client.diagnostics[uri]
    assert mistake.code == "MOT040"
    assert mistake.range == place
    told = await client.text_document_hover_async(
        types.HoverParams(text_document=types.TextDocumentIdentifier(uri=uri), position=types.Position(2, 3))
    )
    assert told is not None and isinstance(told.contents, types.MarkupContent)
    assert "one copy per block" in told.contents.value

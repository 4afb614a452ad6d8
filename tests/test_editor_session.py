"""A session with the language server, by a client that speaks the protocol: what an editor does and is shown."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest_lsp = pytest.importorskip("pytest_lsp")

import pygls.exceptions  # noqa: E402
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
    await change(client, uri, place, "fnn")
    (mistake,) = client.diagnostics[uri]
    assert mistake.code == "MOT040"
    assert mistake.range == place
    told = await client.text_document_hover_async(
        types.HoverParams(text_document=types.TextDocumentIdentifier(uri=uri), position=types.Position(2, 3))
    )
    assert told is not None and isinstance(told.contents, types.MarkupContent)
    assert "one copy per block" in told.contents.value

    document = types.TextDocumentIdentifier(uri=uri)
    (action,) = await client.text_document_code_action_async(
        types.CodeActionParams(
            text_document=document, range=place, context=types.CodeActionContext(diagnostics=[mistake])
        )
    )
    assert action.title == "Write `ffn`"
    (edit,) = action.edit.changes[uri]
    await change(client, uri, edit.range, edit.new_text)
    assert not client.diagnostics[uri]

    at = types.Position(2, 11)
    end = types.Range(start=at, end=at)
    await change(client, uri, end, " as {text} {image}  in layers 0..9")
    assert [each.code for each in client.diagnostics[uri]] == ["MOT041"]
    await change(client, uri, types.Range(start=types.Position(2, 41), end=types.Position(2, 45)), "0..1")
    assert not client.diagnostics[uri]
    items = await client.text_document_completion_async(
        types.CompletionParams(text_document=document, position=types.Position(2, 10))
    )
    assert {"ffn", "ffn.up", "attention"} <= {each.label for each in items}
    (edit,) = await client.text_document_formatting_async(
        types.DocumentFormattingParams(
            text_document=document, options=types.FormattingOptions(tab_size=2, insert_spaces=True)
        )
    )
    await change(client, uri, edit.range, edit.new_text)
    assert "untie ffn as {text} {image} in layers 0..1\n" in edit.new_text
    line = edit.new_text[: edit.new_text.index("untie")].count("\n")
    image = types.Position(line, edit.new_text.splitlines()[line].index("image") + 2)
    renamed = await client.text_document_rename_async(
        types.RenameParams(text_document=document, position=image, new_name="picture")
    )
    base = (tmp_path / "base.mot").as_uri()
    assert {each: len(edits) for each, edits in renamed.changes.items()} == {uri: 1, base: 1}
    (there,) = await client.text_document_definition_async(
        types.DefinitionParams(text_document=document, position=image)
    )
    assert (there.uri, there.range.start) == (base, types.Position(4, 11))
    places = await client.text_document_references_async(
        types.ReferenceParams(
            text_document=document,
            position=image,
            context=types.ReferenceContext(include_declaration=True),
        )
    )
    assert len(places) == 2
    whole = types.Range(start=types.Position(0, 0), end=types.Position(9, 0))
    remarks = await client.text_document_inlay_hint_async(types.InlayHintParams(text_document=document, range=whole))
    assert "parameters" in remarks[0].label
    listed = await client.text_document_document_symbol_async(types.DocumentSymbolParams(text_document=document))
    assert [each.name for each in listed] == ["model"]
    folded = await client.text_document_folding_range_async(types.FoldingRangeParams(text_document=document))
    assert folded[0].start_line == 0

    for nonsense in ("model {{{{", "\x00", "", 'model a { extends "over.mot" }', "[" * 5000):
        await change(client, uri, None, nonsense)
        assert client.diagnostics[uri]
        await client.text_document_hover_async(types.HoverParams(text_document=document, position=at))
    await change(client, uri, None, OVER.replace("ffn", "ffn as {text} {image}"))
    with pytest.raises(pygls.exceptions.JsonRpcException, match="Python keyword"):
        await client.text_document_rename_async(
            types.RenameParams(text_document=document, position=types.Position(2, 24), new_name="class")
        )


async def change(client: LanguageClient, uri: str, place: types.Range | None, text: str) -> None:
    """Type a text in place of a range, or of all, and wait for what is told of it."""
    changed = (
        types.TextDocumentContentChangeWholeDocument(text=text)
        if place is None
        else types.TextDocumentContentChangePartial(range=place, text=text)
    )
    client.text_document_did_change(
        types.DidChangeTextDocumentParams(
            text_document=types.VersionedTextDocumentIdentifier(uri=uri, version=2), content_changes=[changed]
        )
    )
    await client.wait_for_notification(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)

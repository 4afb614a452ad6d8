"""The server: what an editor asks, by the Language Server Protocol, answered from a session."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls import uris
from pygls.lsp.server import LanguageServer

from motc import __version__
from motc.lsp.analysis import Analysis
from motc.lsp.diagnostics import Shown, shown
from motc.lsp.hover import hover
from motc.lsp.positions import UTF_16, to_offset, to_position
from motc.lsp.session import Session
from motc.source import SourceFile, Span


class Server:
    """What is answered to one editor, over `connection`; `uris` are those by which it opened each path."""

    def __init__(self) -> None:
        self.connection = LanguageServer("motc", __version__)
        self.session = Session()
        self.uris: dict[Path, str] = {}
        answers: dict[str, Callable[[Any], Any]] = {
            types.TEXT_DOCUMENT_DID_OPEN: self.open,
            types.TEXT_DOCUMENT_DID_CHANGE: self.change,
            types.TEXT_DOCUMENT_DID_CLOSE: self.close,
            types.TEXT_DOCUMENT_HOVER: self.hover,
        }
        for asked, answer in answers.items():
            self.connection.feature(asked)(partial(answer))  # it sets attributes, which methods cannot have

    def open(self, params: types.DidOpenTextDocumentParams) -> None:
        document = params.text_document
        path = self.path(document.uri, document.language_id)
        self.uris[path] = document.uri
        self.publish(self.session.change(path, document.text))

    def change(self, params: types.DidChangeTextDocumentParams) -> None:
        uri = params.text_document.uri
        text = self.connection.workspace.get_text_document(uri).source
        for path in self.opened(uri):
            self.publish(self.session.change(path, text))

    def close(self, params: types.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        for path in self.opened(uri):
            del self.uris[path]
            self.publish(self.session.close(path))
        self.connection.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri=uri, diagnostics=[]))

    def hover(self, params: types.HoverParams) -> types.Hover | None:
        place = self.place(params.text_document.uri, params.position)
        told = hover(*place) if place else None
        if place is None or told is None:
            return None
        word, text = told
        contents = types.MarkupContent(kind=types.MarkupKind.Markdown, value=text)
        return types.Hover(contents=contents, range=self.range(place[0].source, word.start, word.end))

    def path(self, uri: str, language: str) -> Path:
        """The path that a text is known by; one that has no file has its name, and a suffix by its language."""
        name = uris.to_fs_path(uri) if uri.startswith("file:") else None
        path = Path(name).resolve() if name else Path.cwd() / Path(uri.partition(":")[2]).name
        return path if path.suffix else path.with_suffix(".yaml" if language == "yaml" else ".mot")

    def opened(self, uri: str) -> list[Path]:
        return [path for path, known in self.uris.items() if known == uri]

    def place(self, uri: str, position: types.Position) -> tuple[Analysis, int] | None:
        """The analysis of the text that is asked about, and the offset in it."""
        analysis = next((self.session.analysis(path) for path in self.opened(uri)), None)
        if analysis is None:
            return None
        return analysis, to_offset(analysis.source, position.line, position.character, self.encoding)

    @property
    def encoding(self) -> str:
        return str(getattr(self.connection.workspace.position_encoding, "value", UTF_16))

    def range(self, source: SourceFile, start: int, end: int) -> types.Range:
        first, last = (to_position(source, offset, self.encoding) for offset in (start, end))
        return types.Range(start=types.Position(*first), end=types.Position(*last))

    def location(self, span: Span) -> types.Location:
        path = Path(span.source.name).resolve()
        return types.Location(
            uri=self.uris.get(path) or path.as_uri(), range=self.range(span.source, span.start, span.end)
        )

    def publish(self, analyses: Iterable[Analysis]) -> None:
        for analysis in analyses:
            told = [self.diagnostic(analysis, each) for each in shown(analysis)]
            params = types.PublishDiagnosticsParams(uri=self.uris[analysis.path], diagnostics=told)
            self.connection.text_document_publish_diagnostics(params)

    def diagnostic(self, analysis: Analysis, told: Shown) -> types.Diagnostic:
        is_warning = told.diagnostic.severity == "warning"
        return types.Diagnostic(
            range=self.range(analysis.source, told.start, told.end),
            message=told.message,
            severity=types.DiagnosticSeverity.Warning if is_warning else types.DiagnosticSeverity.Error,
            code=told.diagnostic.code,
            source="motc",
            related_information=[
                types.DiagnosticRelatedInformation(location=self.location(span), message=label)
                for label, span in told.related
            ],
        )

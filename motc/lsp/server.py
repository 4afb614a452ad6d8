"""The server: what an editor asks, by the Language Server Protocol, answered from a session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lsprotocol import types
from pygls import uris
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer

from motc import __version__
from motc.lsp.analysis import Analysis
from motc.lsp.completion import complete
from motc.lsp.costs import hints
from motc.lsp.diagnostics import Shown, shown
from motc.lsp.fixes import quick_fixes
from motc.lsp.hover import hover
from motc.lsp.names import Place, definitions, is_name, place_of, references, rename
from motc.lsp.outline import Word
from motc.lsp.positions import UTF_16, to_offset, to_position
from motc.lsp.session import Session
from motc.lsp.symbols import Symbol, folds, symbols
from motc.source import SourceFile, Span, SpecError
from motc.syntax import format_source

PAUSE = 0.1
"""How long nothing is typed, in seconds, before all is told."""
TRIGGERS = (".", "=", "{", "[", ",", ":", '"')
KINDS = {
    "key": types.CompletionItemKind.Property,
    "section": types.CompletionItemKind.Module,
    "word": types.CompletionItemKind.EnumMember,
    "name": types.CompletionItemKind.Variable,
    "group": types.CompletionItemKind.Field,
    "file": types.CompletionItemKind.File,
}
SYMBOLS = {
    "model": types.SymbolKind.Class,
    "modality": types.SymbolKind.Variable,
    "tower": types.SymbolKind.Namespace,
    "statement": types.SymbolKind.Event,
    "section": types.SymbolKind.Module,
    "key": types.SymbolKind.Property,
}


class Server:
    """What is answered to one editor, over `connection`; `uris` are those by which it opened each path."""

    def __init__(self) -> None:
        self.connection = LanguageServer("motc", __version__)
        self.session = Session()
        self.uris: dict[Path, str] = {}
        self.pause: asyncio.TimerHandle | None = None
        answers: dict[str, Callable[[Any], Any]] = {
            types.TEXT_DOCUMENT_DID_OPEN: self.open,
            types.TEXT_DOCUMENT_DID_CHANGE: self.change,
            types.TEXT_DOCUMENT_DID_CLOSE: self.close,
            types.TEXT_DOCUMENT_DID_SAVE: self.save,
            types.TEXT_DOCUMENT_HOVER: self.hover,
            types.TEXT_DOCUMENT_DEFINITION: self.definition,
            types.TEXT_DOCUMENT_REFERENCES: self.references,
            types.TEXT_DOCUMENT_FORMATTING: self.format,
            types.TEXT_DOCUMENT_INLAY_HINT: self.hints,
            types.TEXT_DOCUMENT_FOLDING_RANGE: self.folds,
            types.TEXT_DOCUMENT_DOCUMENT_SYMBOL: self.symbols,
            types.TEXT_DOCUMENT_PREPARE_RENAME: self.prepare_rename,
        }
        for asked, answer in answers.items():
            self.connection.feature(asked)(partial(answer))  # it sets attributes, which methods cannot have
        feature, triggers = self.connection.feature, list(TRIGGERS)
        feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=triggers))(
            partial(self.complete)
        )
        feature(types.TEXT_DOCUMENT_RENAME, types.RenameOptions(prepare_provider=True))(partial(self.rename))
        feature(
            types.TEXT_DOCUMENT_CODE_ACTION,
            types.CodeActionOptions(code_action_kinds=[types.CodeActionKind.QuickFix]),
        )(partial(self.actions))

    def open(self, params: types.DidOpenTextDocumentParams) -> None:
        document = params.text_document
        path = self.path(document.uri, document.language_id)
        self.uris[path] = document.uri
        self.session.change(path, document.text)
        self.tell()

    def change(self, params: types.DidChangeTextDocumentParams) -> None:
        uri = params.text_document.uri
        text = self.connection.workspace.get_text_document(uri).source
        for path in self.opened(uri):
            self.session.change(path, text)
        if self.pause is not None:
            self.pause.cancel()
        self.pause = asyncio.get_running_loop().call_later(PAUSE, self.tell)

    def close(self, params: types.DidCloseTextDocumentParams) -> None:
        uri = params.text_document.uri
        for path in self.opened(uri):
            del self.uris[path]
            self.session.close(path)
        self.tell()
        self.connection.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri=uri, diagnostics=[]))

    def hover(self, params: types.HoverParams) -> types.Hover | None:
        place = self.place(params.text_document.uri, params.position)
        told = hover(*place) if place else None
        if place is None or told is None:
            return None
        word, text = told
        contents = types.MarkupContent(kind=types.MarkupKind.Markdown, value=text)
        return types.Hover(contents=contents, range=self.range(place[0].source, word.start, word.end))

    def save(self, params: types.DidSaveTextDocumentParams) -> None:
        self.tell()
        for path in self.opened(params.text_document.uri):
            self.session.save(path)

    def definition(self, params: types.DefinitionParams) -> list[types.Location]:
        asked = self.word(params.text_document.uri, params.position)
        if asked is None:
            return []
        analysis, word = asked
        return [self.there(each) for each in definitions(self.session.chain(analysis.path), word)]

    def references(self, params: types.ReferenceParams) -> list[types.Location]:
        asked = self.word(params.text_document.uri, params.position)
        if asked is None:
            return []
        analysis, word = asked
        return [self.there(each) for each in references(self.session.family(analysis.path, word), word)]

    def prepare_rename(self, params: types.PrepareRenameParams) -> types.Range | None:
        asked = self.word(params.text_document.uri, params.position)
        if asked is None or not is_name(asked[1]):
            return None
        place = place_of(asked[0].outline, asked[1])
        return self.range(asked[0].source, place.start, place.end)

    def rename(self, params: types.RenameParams) -> types.WorkspaceEdit | None:
        asked = self.word(params.text_document.uri, params.position)
        if asked is None:
            return None
        analysis, word = asked
        try:
            places = rename(self.session.family(analysis.path, word), word, params.new_name)
        except ValueError as error:
            raise JsonRpcInvalidParams(str(error)) from None
        changes: dict[str, list[types.TextEdit]] = {}
        for place in places:
            location = self.there(place)
            edit = types.TextEdit(range=location.range, new_text=params.new_name)
            changes.setdefault(location.uri, []).append(edit)
        return types.WorkspaceEdit(changes=changes)

    def complete(self, params: types.CompletionParams) -> list[types.CompletionItem]:
        place = self.place(params.text_document.uri, params.position)
        if place is None:
            return []
        analysis, offset = place
        return [
            types.CompletionItem(
                label=each.label,
                kind=KINDS[each.kind],
                detail=each.detail or None,
                filter_text=each.label,
                text_edit=types.TextEdit(range=self.range(analysis.source, each.start, each.end), new_text=each.insert),
            )
            for each in complete(analysis, offset, self.session.names(analysis.path))
        ]

    def actions(self, params: types.CodeActionParams) -> list[types.CodeAction]:
        self.tell()
        uri = params.text_document.uri
        first, last = self.place(uri, params.range.start), self.place(uri, params.range.end)
        if first is None or last is None:
            return []
        analysis, start = first
        return [
            types.CodeAction(
                title=each.title,
                kind=types.CodeActionKind.QuickFix,
                diagnostics=[self.diagnostic(analysis, each.complaint)],
                is_preferred=True,
                edit=types.WorkspaceEdit(changes={uri: [self.edit(analysis.source, each.span, each.text)]}),
            )
            for each in quick_fixes(analysis, start, last[1])
        ]

    def format(self, params: types.DocumentFormattingParams) -> list[types.TextEdit]:
        analysis = self.analysis(params.text_document.uri)
        if analysis is None:
            return []
        source = analysis.source
        try:
            text = format_source(source)
        except SpecError:  # which is told already
            return []
        return [self.edit(source, Span(source, 0, len(source.text)), text)] if text != source.text else []

    def hints(self, params: types.InlayHintParams) -> list[types.InlayHint]:
        self.tell()
        analysis = self.analysis(params.text_document.uri)
        if analysis is None:
            return []
        told = [(self.range(analysis.source, each.at, each.at).start, each.text) for each in hints(analysis)]
        first, last = params.range.start.line, params.range.end.line
        return [
            types.InlayHint(position=position, label=text, padding_left=True)
            for position, text in told
            if first <= position.line <= last
        ]

    def folds(self, params: types.FoldingRangeParams) -> list[types.FoldingRange]:
        analysis = self.analysis(params.text_document.uri)
        lines = folds(analysis.outline) if analysis else []
        return [types.FoldingRange(start_line=first, end_line=last) for first, last in lines]

    def symbols(self, params: types.DocumentSymbolParams) -> list[types.DocumentSymbol]:
        analysis = self.analysis(params.text_document.uri)
        return [self.symbol(analysis.source, each) for each in symbols(analysis.outline)] if analysis else []

    def symbol(self, source: SourceFile, part: Symbol) -> types.DocumentSymbol:
        return types.DocumentSymbol(
            name=part.name or "…",
            detail=part.detail,
            kind=SYMBOLS[part.kind],
            range=self.range(source, part.start, part.end),
            selection_range=self.range(source, part.at, part.at_end),
            children=[self.symbol(source, each) for each in part.children],
        )

    def edit(self, source: SourceFile, span: Span, text: str) -> types.TextEdit:
        return types.TextEdit(range=self.range(source, span.start, span.end), new_text=text)

    def word(self, uri: str, position: types.Position) -> tuple[Analysis, Word] | None:
        """The word that is asked about, and the analysis of its text."""
        place = self.place(uri, position)
        word = place[0].outline.word_at(place[1]) if place else None
        return (place[0], word) if place and word else None

    def analysis(self, uri: str) -> Analysis | None:
        return next((self.session.analysis(path) for path in self.opened(uri)), None)

    def there(self, place: Place) -> types.Location:
        return self.location(Span(place.outline.source, place.start, place.end))

    def path(self, uri: str, language: str) -> Path:
        """The path that a text is known by; one that has no file has its name, and a suffix by its language."""
        name = uris.to_fs_path(uri) if uri.startswith("file:") else None
        path = Path(name).resolve() if name else Path.cwd() / Path(uri.partition(":")[2]).name
        return path if path.suffix else path.with_suffix(".yaml" if language == "yaml" else ".mot")

    def opened(self, uri: str) -> list[Path]:
        return [path for path, known in self.uris.items() if known == uri]

    def place(self, uri: str, position: types.Position) -> tuple[Analysis, int] | None:
        """The analysis of the text that is asked about, and the offset in it."""
        analysis = self.analysis(uri)
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

    def tell(self) -> None:
        """Tell of all that changed."""
        for analysis in self.session.told():
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

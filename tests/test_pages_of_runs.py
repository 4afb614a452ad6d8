"""motc match --html and --tensorboard, and motc bench --html: pages that ask for nothing, and what they say."""

from __future__ import annotations

import re
import shlex
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest

from motc.bench import Report as BenchReport
from motc.bench.page import to_html as bench_page
from motc.bench.portable.cells import Cell
from motc.bench.report import Machine, SideMemory
from motc.cli import main
from tests.small_run import do_not_compile, write_data, write_specs

pytest.importorskip("matplotlib")


def check_page(text: str, command: str) -> list[str]:
    """Well-formed figures, each with the command; nothing that is asked of others. Returns the figures' captions."""
    assert len(text.encode()) < 1_000_000
    assert re.findall(r"""(?:src|href)=["'](?!#|data:)[^"']*""", re.sub(r"xlink:href", "", text)) == []
    assert "Content-Security-Policy" in text and "\nnull" not in text and "nan" not in text.lower().split()
    figures = re.findall(r'<figure class="plot">([\s\S]*?)</figure>', text)
    for figure in figures:
        svg = figure[: figure.index("</svg>") + len("</svg>")].replace(
            "<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1
        )
        assert len(ElementTree.fromstring(svg)) > 0
        assert "currentColor" in svg and "#000000" not in svg and "<text" in svg
        assert command in unescape(figure)
    return [unescape(each) for each in re.findall(r"<figcaption>(.*?)<code>", text)]


def test_match_writes_a_page_and_scalars(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    do_not_compile(monkeypatch)
    write_data(tmp_path / "data")
    specs, out, page = write_specs(tmp_path), tmp_path / "out", tmp_path / "page.html"
    words = ["match", str(specs["dense"]), str(specs["mot"]), "--data", str(tmp_path / "data"), "--out", str(out)]
    words += ["--steps", "8", "--seeds", "1", "--batch", "4", "--eval-every", "4"]
    assert main([*words, "--html", str(page), "--tensorboard"]) == 0
    command = shlex.join(["motc", *words])
    captions = check_page(page.read_text(encoding="utf-8"), command)
    assert captions == [
        f"{modality}{rest}"
        for modality in ("text", "image")
        for rest in (" (dotted: held-out)", ": steps to the same training loss", ": seconds to the same training loss")
    ]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for system in ("dense", "mot"):
        events = EventAccumulator(str(out / "tensorboard" / f"{system}-seed0"))
        events.Reload()
        tags = {"training loss/text", "training loss/image", "held-out loss/text", "held-out loss/image"}
        assert tags <= set(events.Tags()["scalars"])
        assert [each.step for each in events.Scalars("training loss/text")] == list(range(1, 9))
        assert [each.step for each in events.Scalars("held-out loss/image")] == [4, 8]
    capsys.readouterr()


def test_a_run_without_the_package_of_scalars_ends_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from motc.cli import machine

    monkeypatch.setattr(machine, "find_spec", lambda name: None if name == "tensorboard" else object())
    specs = write_specs(tmp_path)
    words = ["match", str(specs["dense"]), str(specs["mot"]), "--data", "nowhere", "--out", str(tmp_path / "out")]
    assert main([*words, "--tensorboard"]) == 1
    assert "pip install 'motc[tensorboard]'" in capsys.readouterr().err
    (tmp_path / "folder").mkdir()
    assert main([*words, "--html", str(tmp_path / "folder")]) == 1
    assert "folder is a directory" in capsys.readouterr().err


def measured(shares: tuple[float | None, ...]) -> BenchReport:
    seconds = {"mot": (0.011, 0.012), "dense": (0.010, 0.010), "reference": (0.05,)}
    cells = tuple(
        Cell(
            dtype="float32",
            mode="step",
            tokens={"text": 8, "image": 8},
            share=share,
            batch=2,
            seconds=seconds,
            graphs_meanwhile=0,
        )
        for share in shares
    )
    return BenchReport(
        model="tiny",
        semantic_hash="0",
        batch=2,
        sequence=16,
        pairs=2,
        spans={},
        machine=Machine(device="cpu", processor="a <processor>", threads=1, torch="2"),
        cells=cells,
        compilations=(),
        memory=tuple(
            SideMemory(dtype="float32", side=side, parameters=size, peak=None)
            for side, size in (("mot", 2048), ("dense", 1024))
        ),
        kernels=(),
    )


def test_a_page_of_a_benchmark() -> None:
    command = "motc bench tiny.mot --batch 2"
    text = bench_page(measured((0.25, 0.5)), command)
    (caption,) = check_page(text, command)
    assert caption.startswith("tiny: 2 × 16 tokens")
    assert "1.150 (1.1" in text and "a &lt;processor&gt;" in text and ">2.0 KiB<" in text
    assert check_page(bench_page(measured((None,)), command), command) == [], "one modality: no shares"


def test_bench_writes_a_page_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("motc.bench.bench", lambda *_: measured((0.25, 0.5)))
    spec, page = write_specs(tmp_path)["mot"], tmp_path / "made" / "page.html"
    assert main(["bench", str(spec), "--pairs", "2", "--set", "layers=2", "--html", str(page)]) == 0
    told = capsys.readouterr()
    assert "mot / dense" in told.out and told.err.strip() == str(page)
    command = f"motc bench {spec} --batch 2 --sequence 1024 --pairs 2 --dtype float32,bfloat16"
    check_page(page.read_text(encoding="utf-8"), command)
    assert "--seed 0 --set layers=2" in page.read_text(encoding="utf-8")
    (tmp_path / "folder").mkdir()
    assert main(["bench", str(spec), "--html", str(tmp_path / "folder")]) == 1
    assert main(["bench", str(spec), "--kernels", "--html", str(page)]) == 2

"""What a pack says of itself."""

from __future__ import annotations

from motc.bench.portable.checking import BESIDE_REFERENCE, LONG_SUM, TOLERANCES
from motc.bench.portable.pack import Pack


def readme(pack: Pack) -> str:
    """README.md."""
    models = [
        f"| `{m.name}` | {', '.join(each.name for each in m.modalities)} | {m.parameters / 1e6:,.1f} "
        f"| {m.batch} × {m.sequence} | {', '.join(m.classes)} |"
        for m in pack.models
    ]
    jobs = [f"| {job} | {', '.join(job.modes) or '–'} | {job.seconds:.0f} |" for job in pack.jobs]
    limits = [f"  | {dtype} | {outputs:g} | {gradients:g} |" for dtype, (outputs, gradients) in TOLERANCES.items()]
    return README.format(
        motc=pack.motc,
        seconds=f"{pack.seconds:.0f}",
        total=f"{sum(job.seconds for job in pack.jobs):.0f}",
        rounds=pack.rounds,
        products="{tokens} tokens, width {width}, hidden {hidden}".format(**pack.products),
        models="\n".join(models),
        jobs="\n".join(jobs),
        limits="\n".join(limits),
        beside=f"{BESIDE_REFERENCE:g}",
        long_sum=f"{LONG_SUM:,}",
    )


README = """# A benchmark that needs torch alone

    python run.py                      # on the GPU if there is one, within {seconds} s; result.json and result.md here
    python run.py --out DIR            # there
    python run.py --only check,decode  # of check, time, graphs, decode and products
    python run.py --one-size           # one mixture, compiled for its sizes alone
    python run.py --device cpu --quick # small batches, graphs captured but no kernels compiled: only to try it

Python 3.11 and torch 2.11 or later; no other package, no network. Written by motc {motc}, which is not needed.

| model | modalities | million parameters | batch | sides |
|---|---|---|---|---|
{models}

`models/` has each side as a generated file: `dense`, the twin without parameters of a modality's own; the strategies by
which towers are told apart; and `reference`, boolean masks, for checking. `portable/` is what `motc bench` measures
with.

## What is done

First things first, as long as the estimate fits into the time that is left; estimates are corrected by what earlier
jobs took. Results are written as they come. What fails is recorded, and the rest goes on. The exit code is 1 if a
check was off.

| job | modes | s, about |
|---|---|---|
{jobs}

About {total} s in all.

- **check**: uncompiled, on the most even mixture of the modalities and on the first, outputs and the gradient of each
  parameter of every strategy beside the reference's in float32 with the same parameters: the norm of the difference
  over the norm. The worst output and the worst parameter may be off by

  | dtype | outputs | gradients |
  |---|---|---|
{limits}

  (where products add up more than {long_sum} numbers, more as the root of how many)
  or by {beside} times what `reference` itself is off in the same dtype, where that is more. What is timed is checked so
  again, as it is compiled. With experts, bfloat16 is not judged: rounding may send a token
  to another expert. Convolutions use all of float32 here (`torch.backends.cudnn.allow_tf32` is off).
- **time**: `forward` under `no_grad`; `backward` is forward and backward; `step` is both and fused AdamW. {rounds}
  rounds in which the side and dense take turns, each of which gives one ratio; on CUDA from event to event. A third as
  many (on CUDA one) go under the profiler, for the ratio of the matrix products alone and of everything else, attention
  included. Beside these: graphs, recompilations after the first batch, breaks, and seconds of compiling from empty
  caches; peak memory of a step beyond parameters, gradients and optimizer state; and synchronisations of the host with
  the device in a run (`torch.cuda.set_sync_debug_mode`), the layout's among them, which is made in each run.
- **graphs**: `mode="reduce-overhead"`, for strategies whose layers read nothing back from the device, beside dense as
  it is compiled otherwise.
- **decode**: tokens a second by decode steps alone, uncompiled; `mixed` has rows at all modalities in turn.
- **products**: the matrix products of one layer, {products}, on the processor: cut into as many
  pieces as there are towers beside one weight for all, in the ways that `portable/products.py` names.
"""

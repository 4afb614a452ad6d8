"""Train a spec on a data folder, on one process or on many nodes: plain torch around motc.parallelize.

    torchrun --nproc-per-node 2 examples/scale/train.py examples/emoji/specs/mot.mot \\
        --data examples/emoji/match_data --out runs/scale --mesh dp=2

A run that was cut off goes on from its newest checkpoint, on whatever mesh it is started again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.utils.data import DataLoader

import motc
from motc.cost import attention_flops, flops_per_token
from motc.driver import compile_ir
from motc.match.batches import indices, make_batch
from motc.match.data import Data, Sample, read_data
from motc.training.checkpoints import newest_checkpoint


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="a data folder, as in docs/match.md")
    parser.add_argument(
        "--out", type=Path, required=True, help="checkpoints, metrics.jsonl and, at the end, the weights"
    )
    parser.add_argument("--weights", type=Path, help="safetensors to begin with; without them, initial weights")
    parser.add_argument(
        "--mesh", default="", help="replicate=2,dp=4,ep=2,cp=2,tp=2: some, in this order; by default dp"
    )
    parser.add_argument("--undivided", nargs="*", default=[], help="selectors of what tp leaves whole")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32, help="samples of a step, of all ranks together")
    parser.add_argument(
        "--tokens", type=int, help="of a rank's part of a batch, packed by motc.balance; then --batch is not read"
    )
    parser.add_argument("--accumulate", type=int, default=1, help="parts of a rank's batch, one after the other")
    parser.add_argument("--rate", type=float, default=1e-3, help="the highest learning rate")
    parser.add_argument("--warm-up", type=int, default=20)
    parser.add_argument("--decay", type=float, default=0.1, help="weight decay, of what is no norm")
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="what layers compute in; by default float32")
    parser.add_argument("--checkpoint-every", type=int, default=0, help="1: no layer keeps its activations")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches and their layouts")
    parser.add_argument("--peak", type=float, help="a device's TFLOP/s, to print the share that is used (MFU)")
    parser.add_argument("--profile", type=int, help="write a trace of this step for chrome://tracing")
    parser.add_argument("--tensorboard", action="store_true")
    return parser.parse_args()


def join(backend: str) -> None:
    """Meet the other processes. Of torchrun's store, which outlives workers, those of each start have a part.

    Else those that it starts again would find the addresses of the ones that are gone.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        dist.init_process_group(backend)
        return
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)  # type: ignore[attr-defined]
    own = dist.PrefixStore(f"start {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)  # type: ignore[attr-defined]
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group(backend, store=own, rank=rank, world_size=world)


def make_mesh(text: str, device: str) -> DeviceMesh:
    """The mesh that `--mesh` says, of all processes. Raises SystemExit where it has another number of them."""
    world = dist.get_world_size()
    sizes = {name: int(size) for name, _, size in (each.partition("=") for each in text.split(",") if each)}
    sizes = sizes or {"dp": world}
    if math.prod(sizes.values()) != world:
        raise SystemExit(f"--mesh {text} is of {math.prod(sizes.values())} processes, and here are {world}")
    return init_device_mesh(device, tuple(sizes.values()), mesh_dim_names=tuple(sizes))


def place(mesh: DeviceMesh) -> tuple[int, int]:
    """Which of how many batches this process has: ranks of `cp` and `tp` have one between them."""
    rank, ranks = 0, 1
    for name, size in zip(mesh.mesh_dim_names or (), mesh.shape, strict=True):
        if name not in ("cp", "tp"):
            rank, ranks = rank * size + mesh.get_local_rank(name), ranks * size
    return rank, ranks


def batches(args: argparse.Namespace, data: Data, model: Any, mesh: DeviceMesh, first: int) -> Iterator[list[Any]]:
    """For each step from the first, this rank's batch in parts, each with its layout.

    Which samples a step has follows from the seed and its number, so that is all of a sampler's state.
    """
    rank, ranks = place(mesh)
    if args.tokens is None:
        chosen: Iterator[list[int]] = (
            each[rank::ranks][part :: args.accumulate]
            for each in indices(len(data.training), args.batch, args.seed, first, args.steps)
            for part in range(args.accumulate)
        )
    else:
        chosen = balanced(args, data, rank, ranks, first)

    def collate(rows: list[Sample]) -> Any:
        return make_batch(rows, {"model": model.layout}, tuple(data.described.latents))

    loader = DataLoader[Any](data.training, batch_sampler=chosen, collate_fn=collate, num_workers=args.workers)
    parts = iter(loader)
    for _ in range(first, args.steps):
        yield [next(parts) for _ in range(args.accumulate)]


def balanced(args: argparse.Namespace, data: Data, rank: int, ranks: int, first: int) -> Iterator[list[int]]:
    """This rank's parts of all steps from the first, that hold as much of every modality as others' parts."""
    how = {"tokens": args.tokens, "ranks": ranks, "rank": rank, "seed": args.seed}
    even = motc.balance(data.training.counts(len(data.modalities)), first=first * args.accumulate, **how)
    return islice(even, (args.steps - first) * args.accumulate)


def given(part: Any, device: str) -> dict[str, Any]:
    """A part of a batch as the model takes it."""
    moved = {name: value.to(device) for name, value in part.latents.items()}
    named = {"input_ids": part.input_ids.to(device), "modality_ids": part.modality_ids.to(device)}
    layout = part.layouts["model"].to(device)
    return {**named, "layout": layout, **({"latents": moved} if moved else {})}


def rate(args: argparse.Namespace, step: int) -> float:
    """Linear warm-up, then a cosine to a tenth."""
    if step < args.warm_up:
        return float(args.rate * (step + 1) / args.warm_up)
    done = (step - args.warm_up) / max(1, args.steps - args.warm_up)
    return float(args.rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done))))


def flops(ir: Any, parts: list[Any]) -> float:
    """Of this rank's forward and backward, by motc.cost: rows of these lengths, tokens of these modalities."""
    of_tokens, total = flops_per_token(ir), 0
    for part in parts:
        for number, name in enumerate(ir.names):
            total += of_tokens[name] * int((part.modality_ids == number).sum())
        total += sum(attention_flops(ir, int(length)) for length in (part.modality_ids >= 0).sum(1))
    return 3.0 * total


def main() -> None:
    args = arguments()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if "RANK" not in os.environ:  # without torchrun
        os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29501"}
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    join("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    mesh, data, ir = make_mesh(args.mesh, device), read_data(args.data), compile_ir(args.spec)
    if data.modalities != ir.names:
        raise SystemExit(f"the data has {', '.join(data.modalities)}, and the spec {', '.join(ir.names)}")
    _, ranks = place(mesh)
    if args.tokens is None and args.batch % (ranks * args.accumulate):
        raise SystemExit(f"a batch of {args.batch} is not divided by {ranks} ranks times {args.accumulate} parts")

    model: Any = motc.load(args.spec, seed=args.seed, device=device, weights=args.weights)
    dtype = None if args.dtype is None else getattr(torch, args.dtype)
    motc.parallelize(
        model,
        mesh,
        undivided=tuple(args.undivided),
        dtype=dtype,
        reduce_dtype=None if dtype is None else torch.float32,
        checkpoint_every=args.checkpoint_every,
    )
    groups = motc.optimizer_groups(model, {"*norm": {"weight_decay": 0.0}}, weight_decay=args.decay)
    optimizer = motc.skip_absent(torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.95)), model)
    newest = newest_checkpoint(args.out)
    progress = {"step": 0} if newest is None else motc.load_checkpoint(newest, model, optimizer)
    if args.tokens is not None and progress.get("ranks", ranks) != ranks:
        raise SystemExit(f"{newest} was packed for {progress['ranks']} ranks with a batch of their own, not {ranks}")
    first = int(progress["step"])
    if args.compile:
        model.compile()
    train(args, model, optimizer, mesh, data, ir, first, device)
    motc.save_weights(args.out / "weights.safetensors", model)
    dist.destroy_process_group()


def train(
    args: argparse.Namespace,
    model: Any,
    optimizer: torch.optim.Optimizer,
    mesh: DeviceMesh,
    data: Data,
    ir: Any,
    first: int,
    device: str,
) -> None:
    is_first = dist.get_rank() == 0
    log = Log(args, first) if is_first else None
    rank, ranks = place(mesh)
    for step, parts in enumerate(batches(args, data, model, mesh, first), start=first):
        start = time.perf_counter()
        torch.manual_seed(args.seed * 1_000_003 + step * ranks + rank)  # of the noise: one for ranks with one batch
        for group in optimizer.param_groups:
            group["lr"] = rate(args, step)
        with profiled(args, step):
            of_parts = [given(part, device) for part in parts]
            each = [model.count(**part) for part in of_parts]
            counts = {name: torch.stack([one[name] for one in each]).sum(0) for name in model.modalities}
            sums = torch.zeros(len(model.modalities), 2, dtype=torch.float64, device=device)
            for part in of_parts:
                losses = model.loss(**part)
                motc.share_of_all(model, losses, mesh, counts).backward()  # type: ignore[no-untyped-call]
                told = [(losses.by_modality[name] * n, n) for name, n in losses.weights.items()]
                sums += torch.stack([torch.stack([loss.detach().double(), n.double()]) for loss, n in told])
            norm = motc.clip_gradients(model, args.clip).item()
            optimizer.step()
            optimizer.zero_grad()
            if hasattr(model, "update_corrections"):
                model.update_corrections()
        numbers = torch.tensor([flops(ir, parts), sum(int((each.modality_ids >= 0).sum()) for each in parts)])
        numbers = torch.cat([sums.flatten(), numbers.to(sums)]) / (
            dist.get_world_size() / ranks
        )  # cp and tp repeat them
        dist.all_reduce(numbers)
        seconds, (done, tokens) = time.perf_counter() - start, numbers[-2:].tolist()
        if log is not None:
            sums = numbers[:-2].view(-1, 2)
            means = {name: s / n for name, (s, n) in zip(model.modalities, sums.tolist(), strict=True) if n}
            line = {"step": step + 1, "loss": means, "rate": rate(args, step), "norm": norm, "seconds": seconds}
            line |= {"tokens_per_second": tokens / seconds, "tflops": done / seconds / 1e12 / dist.get_world_size()}
            log.write(line | ({"mfu": line["tflops"] / args.peak} if args.peak else {}))
        if (step + 1) % args.save_every == 0 or step + 1 == args.steps:
            progress = {"step": step + 1, "seed": args.seed, "ranks": ranks}
            motc.save_checkpoint(args.out / f"step-{step + 1}", model, optimizer, progress)


@contextlib.contextmanager
def profiled(args: argparse.Namespace, step: int) -> Iterator[None]:
    """A trace of the step that `--profile` names, of each rank."""
    if step + 1 != args.profile:
        yield
        return
    with torch.profiler.profile() as profile:
        yield
    profile.export_chrome_trace(str(args.out / f"trace-{dist.get_rank()}.json"))


class Log:
    """metrics.jsonl, from which steps that a checkpoint does not have are taken, and TensorBoard's file."""

    def __init__(self, args: argparse.Namespace, first: int) -> None:
        self.path = args.out / "metrics.jsonl"
        args.out.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        self.path.write_text(
            "".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= first)
        )
        self.board: Any = None
        if args.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(args.out))

    def write(self, line: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        losses = "  ".join(f"{name} {loss:.3f}" for name, loss in line["loss"].items())
        share = f"  MFU {line['mfu']:.1%}" if "mfu" in line else ""
        print(f"step {line['step']}  {losses}  {line['tokens_per_second']:,.0f} tokens/s{share}", flush=True)
        if self.board is not None:
            for key, value in {**line, **{f"loss/{name}": loss for name, loss in line["loss"].items()}}.items():
                if key not in ("step", "loss"):
                    self.board.add_scalar(key, value, line["step"])


if __name__ == "__main__":
    main()

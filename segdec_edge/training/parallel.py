"""One training in several processes, as torchrun starts them. Knows no data and no loss.

torchrun --nproc-per-node N -m segdec_edge train … gives each process its place in the environment; without it a
training is one process and nothing here costs anything. Processes tell each other tensors only, no pickled objects.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.distributed import PrefixStore, Store, rendezvous  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from segdec_edge.errors import PeerStopped, SegdecError, TrainingError

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others: the longest lawful wait is a first pass over slow pictures, then a write."""

_GRACE = timedelta(seconds=5)


@dataclass(frozen=True)
class Ranks:
    """This process's place: rank of world over all machines, local_rank of local_world on this one."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @property
    def several(self) -> bool:
        return self.world > 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's part of a batch; the parts differ by one item at most and may be empty."""
        return items[self.rank :: self.world]

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Elementwise sum over all processes."""
        return np.asarray(self._reduced(values, distributed.ReduceOp.SUM), np.float64)

    def fill(self, count: int, mine: dict[int, int]) -> list[int]:
        """One list of `count` integers below 2^64 out of what each process knows by index, no index known twice."""
        values = np.zeros(count, np.uint64)
        for index, value in mine.items():
            values[index] = value
        return [int(value) for value in self._reduced(values.view(np.int64), distributed.ReduceOp.SUM).view(np.uint64)]

    def wait(self) -> None:
        """Return when all processes are here."""
        self.sum(np.zeros(1))

    def same(self, number: int) -> bool:
        """Whether all processes hold the same number, below 2^63."""
        both = self._reduced(np.array([number, -number], np.int64), distributed.ReduceOp.MAX)
        return bool(both[0] == -both[1])

    def _reduced(self, values: NDArray[np.generic], by: distributed.ReduceOp.RedOpType) -> NDArray[np.generic]:
        if not self.several:
            return values
        tensor = torch.from_numpy(values.copy())
        distributed.all_reduce(tensor, by)
        return tensor.numpy()


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other processes of this training for as long as the block runs; alone outside torchrun.

    The first process that fails raises its own error; each other one raises PeerStopped, whatever it was waiting for.
    Where a process vanished without a word, TrainingError.
    """
    ranks = _from_environment()
    if not ranks.several:
        yield ranks
        return
    failures = _start(ranks)
    # A channels_last weight of one pixel and a plain one differ in strides that no element is reached by.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    try:
        yield ranks
    except SegdecError as error:
        _leave(failed=True)
        if failures.add("count", 1) > 1:
            raise PeerStopped from error
        raise
    except RuntimeError as error:
        _leave(failed=True)
        if not _is_lost_contact(error):
            raise
        raise _reason(failures, error) from error
    else:
        _leave(failed=False)


class Shared:
    """A network whose gradients, after the last backward of a step, are the mean over all processes.

    DistributedDataParallel does it: it sends the gradients of the wide layer, 94 % of all bytes, while the rest of the
    backward still runs, and one all_reduce after the step could not. It is exact for an uneven batch too: each loss is
    multiplied by `factor` × its share of the global batch before backward, so that the mean becomes the wanted sum;
    all backwards but a step's last run inside `more_to_come` and only add up here; and a process without a picture
    goes backward from `nothing`, a zero that depends on every parameter, because the others wait for its gradients.
    Without other processes it is the network itself. norm = "batch" does not fit: its running statistics would be
    those of each process's own pictures.
    """

    def __init__(self, net: nn.Module, ranks: Ranks, *, freezes: bool = False) -> None:
        """freezes: some parameters may lose requires_grad later; looking for them costs a walk through the graph."""
        self._net, self.factor = net, ranks.world
        self._parallel = (
            DistributedDataParallel(_OrNothing(net), find_unused_parameters=freezes) if ranks.several else None
        )

    def __call__(self, x: Tensor) -> Any:
        return self._net(x) if self._parallel is None else self._parallel(x)

    def more_to_come(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._parallel is None else self._parallel.no_sync()

    def nothing(self) -> Tensor:
        """Zero, for a process that has no picture in this step."""
        return torch.as_tensor(self(torch.empty(0)))


class _OrNothing(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Any:
        if x.numel():
            return self.net(x)
        return torch.stack([0 * one.sum() for one in self.net.parameters() if one.requires_grad]).sum()


def _from_environment() -> Ranks:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if "RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        return ALONE
    missing = [name for name in names if not os.environ.get(name, "").isdigit()]
    if missing:
        raise TrainingError(f"{', '.join(missing)} not set, wanted what torchrun sets. Start it with torchrun.")
    return Ranks(*(int(os.environ[name]) for name in names))


def _start(ranks: Ranks) -> Store:
    """Join the group; gives a store in which failures are counted. Tensors on a GPU go by nccl, others by gloo."""
    try:
        store, rank, world = next(rendezvous("env://", timeout=PATIENCE))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and distributed.is_nccl_available() else "gloo"
        distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
    except (distributed.DistError, ValueError) as error:
        raise TrainingError(
            f"process {ranks.rank} of {ranks.world} found no others ({_first_line(error)}). Check MASTER_ADDR and"
            " MASTER_PORT, or start it with torchrun."
        ) from error
    failures = PrefixStore("segdec", store)
    failures.set_timeout(_GRACE)
    return failures


def _leave(*, failed: bool) -> None:
    # nccl waits for the others when it is taken down, and they may be gone; gloo has to be, so that they notice.
    if not (failed and torch.cuda.is_available()):
        distributed.destroy_process_group()


def _is_lost_contact(error: RuntimeError) -> bool:
    return isinstance(error, distributed.DistError) or "gloo" in str(error).lower() or "NCCL" in str(error)


def _reason(failures: Store, error: RuntimeError) -> TrainingError:
    try:
        failures.wait(["count"])
        return PeerStopped()
    except distributed.DistError:
        return TrainingError(
            f"lost contact with another process of this training ({_first_line(error)[:120]}). Its own output says why;"
            " without any, memory may have run out: lower cache_gib."
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

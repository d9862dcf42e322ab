"""Layers whose low-rank products are chosen for every row of a batch, and for every position of a row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import is_

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studio.adapters.injection import geometry
from studio.layers.low_rank import LowRank
from studio.layers.target_modules import Site

Shares = Callable[[int], Tensor]
"""From the number of positions to how far each concept acts at each of them, (n, positions, concepts) for a batch of n,
or n = 1 where all of its rows agree.
"""

Convolve = Callable[[Tensor, Tensor, int], Tensor]
"""From an input (n, groups · in, h, w), kernels (groups · R, in, kh · kw) and groups to (n, groups · R, h', w')."""


@dataclass(frozen=True)
class LoraFactors:
    """What one concept does to one layer: its product, and the change of the bias (out,) if any."""

    low_rank: LowRank
    bias: Tensor | None = None


@dataclass
class BatchedLora:
    """What is added to one layer's output: down (m, in, R), up (m, R, out) and bias (m, 1, out), one for every row of a
    batch of m, or for all rows where m is 1; `shares` of concepts with each one's rank in `widths`.

    A batch of a multiple of m, as guidance makes it, repeats the rows.
    """

    down: Tensor
    up: Tensor
    bias: Tensor | None = None
    shares: Shares | None = None
    widths: tuple[int, ...] = ()
    _gates: dict[int, Tensor] = field(default_factory=dict)
    _tiled: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def add_to(self, output: Tensor, x: Tensor) -> Tensor:
        """A matrix' output (n, positions, out) with the products of its inputs x (n, positions, in) added."""
        hidden = x @ self.down[0] if len(self.down) == 1 else torch.bmm(x, self._tile(len(x))[0])
        return self._raised(output, hidden)

    def add_to_convolved(self, output: Tensor, x: Tensor, convolve: Convolve) -> Tensor:
        """A convolution's output (n, out, h', w') with the products of its inputs x (n, in, h, w) added; `convolve`
        applies other weights of its geometry, in groups.
        """
        down = self.down if len(self.down) == 1 else self._tile(len(x))[0]
        kernels = self._kernels(down, x.shape[1])
        if len(down) == 1:
            hidden = convolve(x, kernels, 1)
        else:
            hidden = convolve(x.reshape(1, -1, *x.shape[2:]), kernels, len(x)).unflatten(1, (len(x), -1))[0]
        size = output.shape[2:]
        raised = self._raised(*(values.permute(0, 2, 3, 1).flatten(1, 2) for values in (output, hidden)))
        return raised.unflatten(1, size).permute(0, 3, 1, 2)

    @staticmethod
    def _kernels(down: Tensor, channels: int) -> Tensor:
        """The products' first factors (m, in · kh · kw, R), a convolution's, as kernels (m · R, in, kh · kw)."""
        return down.mT.reshape(-1, channels, down.shape[1] // channels)

    def _raised(self, output: Tensor, hidden: Tensor) -> Tensor:
        """The output (n, positions, out) with what follows from hidden values (n, positions, R) added."""
        if self.bias is not None:
            output = output + self.bias.repeat(len(output) // len(self.bias), 1, 1).to(output.dtype)
        hidden = self._gated(hidden)
        if len(self.up) == 1:
            return torch.addmm(output.flatten(0, -2), hidden.flatten(0, -2), self.up[0]).view_as(output)
        return torch.baddbmm(output, hidden, self._tile(len(output))[1])

    def _tile(self, rows: int) -> tuple[Tensor, Tensor]:
        """Both factors for a batch of so many rows."""
        if rows not in self._tiled:
            times = rows // len(self.down)
            self._tiled[rows] = self.down.repeat(times, 1, 1), self.up.repeat(times, 1, 1)
        return self._tiled[rows]

    def _gated(self, hidden: Tensor) -> Tensor:
        """Hidden values (n, positions, R) at each concept's share of each position."""
        if self.shares is None:
            return hidden
        positions = hidden.shape[1]
        if positions not in self._gates:
            widths = torch.tensor(self.widths)
            gate = self.shares(positions).repeat_interleave(widths, 2)
            self._gates[positions] = gate.to(hidden.device, hidden.dtype)
        gate = self._gates[positions]
        return hidden * (gate if len(gate) == 1 else gate.repeat(len(hidden) // len(gate), 1, 1))


def batched_lora_of(
    rows: Sequence[Sequence[LoraFactors]], dtype: torch.dtype, shares: Shares | None = None
) -> BatchedLora | None:
    """The route of a batch whose rows have these parts; None where no row has any.

    Rows of the same parts in the same order become one. Narrower rows are filled up with zeros.
    """
    if not any(rows):
        return None
    if all(len(row) == len(rows[0]) and all(map(is_, row, rows[0])) for row in rows):
        rows = rows[:1]
    sample = next(part for row in rows for part in row).low_rank
    widest = max(sum(part.low_rank.rank for part in row) for row in rows)
    down = sample.down.new_zeros(len(rows), sample.down.shape[1], widest, dtype=dtype)
    up = sample.up.new_zeros(len(rows), widest, sample.up.shape[0], dtype=dtype)
    for index, row in enumerate(rows):
        place = 0
        for part in row:
            last = place + part.low_rank.rank
            down[index, :, place:last], up[index, place:last] = part.low_rank.down.mT, part.low_rank.up.mT
            place = last
    return BatchedLora(down, up, _biases(rows, up), shares, tuple(part.low_rank.rank for part in rows[0]))


def _biases(rows: Sequence[Sequence[LoraFactors]], like: Tensor) -> Tensor | None:
    """The summed changes of the bias in each row, (m, 1, out)."""
    if all(part.bias is None for row in rows for part in row):
        return None
    sums = [sum((part.bias for part in row if part.bias is not None), like.new_zeros(like.shape[-1])) for row in rows]
    return torch.stack([each.float() for each in sums])[:, None]


class RoutedLinear(nn.Linear):
    """A frozen Linear to whose output the current route is added; weight and bias are the frozen layer's own."""

    def __init__(self, frozen: nn.Linear):
        super().__init__(frozen.in_features, frozen.out_features, frozen.bias is not None, device="meta")
        self.weight, self.bias = frozen.weight, frozen.bias
        self.route: BatchedLora | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(n, positions, in) to (n, positions, out)."""
        output = F.linear(input, self.weight, self.bias)
        return output if self.route is None else self.route.add_to(output, input)


class RoutedConv2d(nn.Conv2d):
    """A frozen Conv2d to whose output the current route is added; weight and bias are the frozen layer's own."""

    def __init__(self, frozen: nn.Conv2d):
        super().__init__(**geometry(frozen), device="meta")
        self.weight, self.bias = frozen.weight, frozen.bias
        self.route: BatchedLora | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(n, in, h, w) to (n, out, h', w')."""
        output = self._conv_forward(input, self.weight, self.bias)
        return output if self.route is None else self.route.add_to_convolved(output, input, self._convolve)

    def _convolve(self, input: Tensor, kernels: Tensor, groups: int) -> Tensor:
        zeros = self.padding_mode == "zeros"
        padded = input if zeros else F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        kernels = kernels.unflatten(2, self.weight.shape[2:])
        return F.conv2d(padded, kernels, None, self.stride, self.padding if zeros else 0, self.dilation, groups)


class RoutedOutput:
    """What the current route adds to a module's output (n, …, d), as a product of that output itself."""

    def __init__(self) -> None:
        self.route: BatchedLora | None = None

    def __call__(self, output: Tensor) -> Tensor:
        """(n, …, d) to the same shape."""
        if self.route is None:
            return output
        rows = output.flatten(1, -2)
        return self.route.add_to(rows, rows).view_as(output)


Routed = RoutedLinear | RoutedConv2d | RoutedOutput


def routed(site: Site) -> Routed | None:
    """The site's layer with a place for routes; None for one that is more than a matrix."""
    if site.role == "output":
        return RoutedOutput()
    match site.module:
        case nn.Linear():
            return RoutedLinear(site.module)
        case nn.Conv2d():
            return RoutedConv2d(site.module)
    return None

"""Nodes put together into groups that a plan can treat as one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isochrone.model import Bools, Floats, Indices
from isochrone.routing.flow.settings import DEFAULT_SETTINGS

SPEED_BIN = 1.25
"""Nodes of one group differ in speed by at most this factor, unless groups had to be merged."""

_CAPACITY_MOST = 1e6
_SLOTS_MOST = 1e6

Labels = NDArray[np.int64]
"""A number for each node: those of the same number belong together."""


@dataclass(frozen=True, slots=True, eq=False)
class NodeTable:
    """What grouping needs of N nodes and M models.

    Attributes:
        region: each node's region, shape (N,); below 0 where it is not known.
        capacity_per_s: requests that the node would serve if it served only model m, shape (N, M); 0 where it
            cannot, also not after loading.
        ready: whether the model can be served without loading, shape (N, M).
        slots: requests that the node works on at once, shape (N,).
        kind: class of hardware, shape (N,), or None when all are alike. Nodes of one kind are taken to be
            faster or slower in all models alike.
    """

    region: Indices
    capacity_per_s: Floats
    ready: Bools
    slots: Floats
    kind: Indices | None = None

    def __post_init__(self) -> None:
        nodes = len(self.region)
        wide = (nodes, self.capacity_per_s.shape[-1])
        shapes = {"capacity_per_s": wide, "ready": wide, "slots": (nodes,)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have the shape {shape}, not {getattr(self, name).shape}")
        if self.kind is not None and len(self.kind) != nodes:
            raise ValueError(f"kind must have the shape ({nodes},), not {self.kind.shape}")


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """G groups: each of one region, of like nodes.

    Attributes:
        node_group: the group of each node, shape (N,); -1 for nodes that were left out.
        region: shape (G,), rising.
        nodes: how many nodes, shape (G,).
        slots: mean slots of a node, shape (G,).
        capacity_per_s: sum over the group's nodes, shape (G, M).
        ready_part: part of that sum which needs no loading, shape (G, M); 0 or 1 unless groups were merged.
        merged: how many groups fewer there are than there were before merging.
        dropped: nodes and entries that were left out: reason to count.
    """

    node_group: Indices
    region: Indices
    nodes: Floats
    slots: Floats
    capacity_per_s: Floats
    ready_part: Floats
    merged: int
    dropped: Mapping[str, int]


def make_groups(table: NodeTable, groups_max: int = DEFAULT_SETTINGS.groups_max) -> Groups:
    """Nodes of the same region, kind, speed, models and ready models, together.

    A node's speed is the geometric mean, over the models that it serves, of its capacity over the model's
    typical one, and is cut into bins of a factor `SPEED_BIN`. Only one number a node is cut, since bins for
    each model would tear apart nodes that differ by noise.

    When there are more than `groups_max`, the smallest are merged with others like them: first those that
    differ only in speed, then in what is ready as well, then all of the region. A merged group promises no
    more than it has: each model's capacity is a sum, and all draw on the same nodes.

    Raises:
        ValueError: there are more regions than `groups_max`.
    """
    serves = (table.capacity_per_s > 0) & (table.capacity_per_s <= _CAPACITY_MOST)
    reasons = {
        "capacity unknown or beyond bounds": ~serves & (table.capacity_per_s != 0),
        "node without a region": table.region < 0,
        "node with slots unknown": ~((table.slots >= 1) & (table.slots <= _SLOTS_MOST)),
        "node that serves nothing": ~serves.any(axis=1),
    }
    whole = [marks for marks in reasons.values() if marks.ndim == 1]
    at = np.flatnonzero(~np.any(whole, axis=0))
    known = _Known(
        region=_labels(table.region[at]),
        kind=_labels(at * 0 if table.kind is None else table.kind[at]),
        capacity_per_s=np.where(serves[at], table.capacity_per_s[at], 0.0),
        serves=serves[at],
        ready=table.ready[at] & serves[at],
    )
    labels, merged = _grouped(known, groups_max)
    node_group = np.full(len(table.region), -1, np.intp)
    node_group[at] = labels
    first = np.unique(labels, return_index=True)[1]
    nodes = np.bincount(labels).astype(np.float64)
    capacity = _sums(labels, known.capacity_per_s)
    return Groups(
        node_group=node_group,
        region=table.region[at][first],
        nodes=nodes,
        slots=np.bincount(labels, table.slots[at]) / nodes,
        capacity_per_s=capacity,
        ready_part=_sums(labels, known.capacity_per_s * known.ready) / np.where(capacity > 0, capacity, 1.0),
        merged=merged,
        dropped={reason: int(marks.sum()) for reason, marks in reasons.items() if marks.any()},
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """The nodes that can be grouped; as in `NodeTable`, regions and kinds numbered from 0."""

    region: Labels
    kind: Labels
    capacity_per_s: Floats
    serves: Bools
    ready: Bools


def _grouped(known: _Known, groups_max: int) -> tuple[Labels, int]:
    """The group of each node, ordered by region, and how many groups merging took away."""
    alike = _both(_both(known.region, known.kind), _set_labels(known.serves))
    prepared = _both(alike, _set_labels(known.ready))
    labels = _both(prepared, _speed_bins(known))
    before = _count(labels)
    for coarser in (prepared, alike, known.region):
        labels = _folded(labels, coarser, groups_max)
    if _count(labels) > groups_max:
        raise ValueError(f"{_count(labels)} regions cannot be put into groups_max = {groups_max} groups")
    return _both(known.region, labels), before - _count(labels)


def _folded(labels: Labels, coarser: Labels, groups_max: int) -> Labels:
    """`labels` with as few as need be of the smallest groups merged where `coarser` puts them together."""
    count = _count(labels)
    if count <= groups_max:
        return labels
    coarse = np.zeros(count, np.int64)
    coarse[labels] = coarser
    order = np.argsort(np.bincount(labels), kind="stable")
    fresh = np.zeros(count, np.int64)
    fresh[np.unique(coarse[order], return_index=True)[1]] = 1
    left = count - np.arange(1, count + 1) + np.cumsum(fresh)
    enough = np.flatnonzero(left <= groups_max)
    folding = order[: enough[0] + 1] if len(enough) else order
    renamed = np.arange(count)
    renamed[folding] = count + coarse[folding]
    return _labels(renamed[labels])


def _speed_bins(known: _Known) -> Labels:
    """Each node's speed among its kind, in as few bins of a factor `SPEED_BIN` as cover all, numbered from 0.

    A bin begins at a node, the slowest that the bins before leave, so that a class of hardware whose nodes
    differ by noise is not cut in two by a fixed grid.
    """
    serves, width = known.serves, math.log(SPEED_BIN)
    logs = np.log(known.capacity_per_s, out=np.zeros(serves.shape), where=serves)
    typical = logs.sum(axis=0) / np.maximum(serves.sum(axis=0), 1)
    speed = np.where(serves, logs - typical, 0.0).sum(axis=1) / np.maximum(serves.sum(axis=1), 1)
    # Kinds are laid out one after the other on one line, further apart than a bin is wide.
    line = speed + known.kind * (np.ptp(speed) + 2.0 * width if len(speed) else 0.0)
    rising = np.sort(line)
    bins = np.zeros(len(rising), np.int64)
    at = 0
    while at < len(rising):
        bins[at] = at > 0
        at = int(np.searchsorted(rising, rising[at] + width, side="right"))
    return _labels(np.cumsum(bins)[np.searchsorted(rising, line)])


def _set_labels(member: Bools) -> Labels:
    """Numbers the distinct rows of `member`, shape (N, M), 64 columns at a time."""
    labels = np.zeros(len(member), np.int64)
    for start in range(0, member.shape[1], 64):
        packed = np.zeros((len(member), 8), np.uint8)
        bits = np.packbits(member[:, start : start + 64], axis=1)
        packed[:, : bits.shape[1]] = bits
        labels = _both(labels, _labels(packed.view(np.uint64)[:, 0]))
    return labels


def _labels(values: NDArray[np.integer]) -> Labels:
    """Distinct values numbered from 0 in rising order."""
    labels: Labels = np.unique(values, return_inverse=True)[1].astype(np.int64)
    return labels


def _both(major: Labels, minor: Labels) -> Labels:
    """Distinct pairs numbered from 0, by `major` first."""
    return _labels(major * (minor.max(initial=0) + 1) + minor)


def _count(labels: Labels) -> int:
    return int(labels.max(initial=-1)) + 1


def _sums(labels: Labels, values: Floats) -> Floats:
    """Sums of `values`, shape (N, M), over each group, shape (G, M)."""
    sums = np.zeros((_count(labels), values.shape[1]))
    for column in range(values.shape[1]):
        sums[:, column] = np.bincount(labels, values[:, column], minlength=len(sums))
    return sums

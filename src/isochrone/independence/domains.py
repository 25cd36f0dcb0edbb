"""Failure domains as declared by the nodes."""

from collections.abc import Callable, Collection, Sequence

Domains = Callable[[str], Collection[str]]
"""The failure domains that a node declares."""


def first_independent(candidates: Sequence[str], failed: Collection[str], domains: Domains) -> str | None:
    """The first of `candidates` that shares no failure domain with any of `failed`.

    When each of them shares one, the first that has not failed itself; None when none is left.
    """
    left = [node for node in candidates if node not in failed]
    suspect = {domain for node in failed for domain in domains(node)}
    return next((node for node in left if suspect.isdisjoint(domains(node))), left[0] if left else None)

"""How deeply JSON is nested."""

from typing import Any

DEPTH_MAX = 128
"""Levels of a request's body at most. Schemas of tools come to a few tens; parsers further on that recurse
fail at about a thousand."""


def deeper_than(body: bytes, decoded: dict[str, Any], depth_max: int) -> bool:
    """Whether `decoded`, which `body` was decoded to, has more than `depth_max` levels of {} and [].

    Most bodies have fewer brackets than that in all, so that nothing is walked.
    """
    if body.count(b"{") + body.count(b"[") <= depth_max:
        return False
    level: list[Any] = [decoded]
    for _ in range(depth_max):
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True

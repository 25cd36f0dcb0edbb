"""How deeply JSON is nested, and how much of it there is to build."""

from typing import Any

DEPTH_MAX = 128
"""Levels of a request's body at most. Schemas of tools come to a few tens; parsers further on that recurse
fail at about a thousand."""

BRACKETS_MAX = 200_000
"""Opening brackets of a body at most, those in its strings with them. Eight MiB of empty arrays take half a
second to build, in which nobody else is served; this many take 20 ms. Few prompts have so many: megabytes of
code."""


def brackets(body: bytes) -> int:
    """Opening brackets in `body`, those in strings with them."""
    return body.count(b"{") + body.count(b"[")


def deeper_than(decoded: dict[str, Any], depth_max: int) -> bool:
    """Whether `decoded` has more than `depth_max` levels of {} and []; never with fewer brackets."""
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

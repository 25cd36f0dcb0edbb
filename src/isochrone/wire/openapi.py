"""What the gateway answers, path by path: its methods, and as an OpenAPI 3.1 document of them.

The fields of requests come from the tables that `wire.openai` checks with, so that what the document allows
is taken and what it forbids is refused; a test asks a live gateway so (schemathesis).
"""

from functools import cache
from typing import Any

import msgspec

from isochrone import __version__
from isochrone.wire import openai, subjects

OPENAPI_PATH = "/openapi.json"
HEALTH_PATH = "/health"
METRICS_PATH = "/metrics"

_READ = ("GET", "HEAD")
_POST = ("POST",)
_Json = dict[str, Any]

_EXACT: dict[str, tuple[str, ...]] = {
    openai.CHAT_PATH: _POST,
    openai.COMPLETIONS_PATH: _POST,
    openai.MODELS_PATH: _READ,
    HEALTH_PATH: _READ,
    METRICS_PATH: _READ,
    OPENAPI_PATH: _READ,
    subjects.STATUS_PATH: _READ,
    subjects.CAPACITY_PATH: _READ,
    subjects.DECISIONS_PATH.rstrip("/"): _READ,
}
_BELOW = (openai.MODELS_PATH + "/", subjects.DECISIONS_PATH)


def methods_of(path: str) -> tuple[str, ...]:
    """The methods that `path` takes beside OPTIONS; none when there is nothing at it."""
    known = _EXACT.get(path)
    if known is not None:
        return known
    if path == "*":
        return ("GET", "HEAD", "POST")
    return _READ if path.startswith(_BELOW) else ()


@cache
def openapi_body() -> bytes:
    """The document, as JSON."""
    return msgspec.json.encode(openapi_document())


def openapi_document() -> _Json:
    """The document: https://spec.openapis.org/oas/v3.1.0."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Isochrone gateway",
            "version": __version__,
            "description": "OpenAI's API over many nodes; each request goes to the one that answers soonest.",
        },
        "paths": {
            openai.CHAT_PATH: {"post": _inference("Chat", "chatCompletion", "ChatRequest")},
            openai.COMPLETIONS_PATH: {"post": _inference("Completion", "completion", "CompletionRequest")},
            openai.MODELS_PATH: _read("Models that nodes have listed", "models", _object("object", "data")),
            openai.MODELS_PATH + "/{model}": _one("model", "One model", _object("id", "object", "created")),
            HEALTH_PATH: _read("Whether the gateway is alive", "health", _object("status", "nodes", "bus")),
            METRICS_PATH: _read("Metrics for Prometheus", "metrics", {"type": "string"}, "text/plain"),
            OPENAPI_PATH: _read("This document", "openapi", _object("openapi", "paths")),
            subjects.STATUS_PATH: _read("All beliefs", "status", _object("gateway", "nodes")),
            subjects.CAPACITY_PATH: _read(
                "Capacity, and what more would save", "capacity", _object("gateway")
            ),
            subjects.DECISIONS_PATH.rstrip("/"): _read(
                "The newest decisions", "decisions", {"type": "array", "items": _record()}
            ),
            subjects.DECISIONS_PATH + "{id}": _one("id", "One decision", _record()),
        },
        "components": {
            "schemas": {
                "Error": _error(),
                "ChatRequest": _request("messages", _MESSAGES),
                "CompletionRequest": _request("prompt", _PROMPT),
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


_POLICY = subjects.HEADER_POLICY.decode()
_MILLISECONDS = r"^(?=.*[1-9])(?:0?[0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9}|1000000000(?:\.0{1,9})?)$"
"""What `wire.objectives` takes: a test compares the two."""

_WORDS = {str: "string", list: "array", dict: "object", int: "integer", float: "number"}
_MESSAGES: _Json = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {
            "role": {"type": "string"},
            "content": {
                "anyOf": [{"type": ["string", "null"]}, {"type": "array", "items": {"type": "object"}}]
            },
        },
    },
}
_PROMPT: _Json = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "minItems": 1, "items": {"type": "string"}},
        {
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]},
        },
    ]
}
_WHOLE: _Json = {"type": ["integer", "null"], "minimum": 1, "maximum": openai.WHOLE_MAX}


def _request(prompt: str, schema: _Json) -> _Json:
    """The body of a request for tokens; fields that are not named go to the node as they are."""
    properties: _Json = {"model": {"type": "string", "minLength": 1}, prompt: schema}
    for names, kinds, _ in openai.FIELD_TYPES:
        words = ["number"] if float in kinds else [_WORDS[kind] for kind in kinds]
        properties |= {name: {"type": [*words, "null"]} for name in names}
    properties |= {
        "n": _WHOLE,
        "max_tokens": _WHOLE,
        "max_completion_tokens": _WHOLE,
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {
            "type": ["object", "null"],
            "properties": {"include_usage": {"type": "boolean"}},
        },
    }
    return {"type": "object", "required": ["model", prompt], "properties": properties}


def _inference(summary: str, operation: str, schema: str) -> _Json:
    """A POST that nodes answer: 200 is theirs, and so is a 4xx that is not listed here."""
    told = {"type": "object"}
    stream = {"type": "string"}
    return {
        "summary": summary,
        "description": f"Where the gateway allows it, the header {_POLICY} names the policy that decides.",
        "operationId": operation,
        "parameters": _wishes(),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
        },
        "responses": {
            "200": {
                "description": "The answer; server-sent events with `stream`",
                "content": {"application/json": {"schema": told}, "text/event-stream": {"schema": stream}},
            },
            **_refusals(400, 401, 403, 404, 405, 408, 413, 417, 429, 431, 500, 501, 502, 503, 504, 505),
        },
    }


def _wishes() -> list[_Json]:
    """What a client may want, in headers."""
    milliseconds = {
        "type": "string",
        "description": "milliseconds above 0 and up to 1000000000, whole or decimal",
        "pattern": _MILLISECONDS,
    }
    schemas: dict[bytes, _Json] = {
        subjects.HEADER_TIMEOUT_MS: {"type": "integer", "minimum": 1, "maximum": 999_999_999},
        subjects.HEADER_SLO_TTFT_MS: milliseconds,
        subjects.HEADER_SLO_TPOT_MS: milliseconds,
        subjects.HEADER_OBJECTIVE: {"enum": ["first-token", "completion"]},
    }
    return [
        {"name": name.decode(), "in": "header", "required": False, "schema": schema}
        for name, schema in schemas.items()
    ]


def _read(summary: str, operation: str, schema: _Json, kind: str = "application/json") -> _Json:
    """A page: GET, and HEAD, which says the same without a body."""
    answer = {"description": summary, "content": {kind: {"schema": schema}}}
    refusals = _refusals(401, 403, 405, 408, 417, 429, 431, 503)
    return {
        "get": {"summary": summary, "operationId": operation, "responses": {"200": answer, **refusals}},
        "head": {
            "summary": f"{summary}: head",
            "operationId": f"{operation}Head",
            "responses": {"200": {"description": summary}, **refusals},
        },
    }


def _one(parameter: str, summary: str, schema: _Json) -> _Json:
    """A page of one of many."""
    item = _read(summary, f"one{parameter.capitalize()}", schema)
    for operation in item.values():
        operation["responses"] |= _refusals(404)
    named = {"name": parameter, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {"parameters": [named], **item}


def _refusals(*statuses: int) -> _Json:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(status): {"description": "An error object", "content": error} for status in statuses}


def _object(*required: str) -> _Json:
    return {"type": "object", "required": list(required)}


def _record() -> _Json:
    return _object("id", "gateway", "model", "policy", "candidates", "exclusions", "outcomes")


def _error() -> _Json:
    text = {"type": ["string", "null"]}
    error = {
        **_object("message", "type", "param", "code"),
        "properties": {
            "message": {"type": "string"},
            "type": {"type": "string"},
            "param": text,
            "code": text,
        },
    }
    return {**_object("error"), "properties": {"error": error}}

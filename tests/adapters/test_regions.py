import pytest

from isochrone.adapters.regions import SAME_REGION_RTT_MS, check_region, load_regions
from isochrone.ports import SettingError


def test_every_pair_is_there_and_read_once() -> None:
    table = load_regions()
    assert table is load_regions()
    assert len(table.names) == 54
    assert table.names == tuple(sorted(table.names))
    for source in table.names:
        for target in table.names:
            rtt_ms = table.rtt_ms(source, target)
            assert rtt_ms is not None
            assert 0 < rtt_ms < 1000


def test_rows_are_sources_and_the_table_is_not_symmetric() -> None:
    table = load_regions()
    assert table.rtt_ms("West Europe", "East US") == 91
    assert table.rtt_ms("East US", "West Europe") == 89


def test_one_region_is_near_itself_and_the_unknown_is_unknown() -> None:
    table = load_regions()
    assert table.rtt_ms("West Europe", "West Europe") == SAME_REGION_RTT_MS == 1.0
    assert table.rtt_ms("Atlantis", "Atlantis") is None
    assert table.rtt_ms("West Europe", "Atlantis") is None
    assert table.rtt_ms("", "") is None


def test_a_misspelt_region_gets_a_suggestion() -> None:
    assert check_region("West Europe") == "West Europe"
    with pytest.raises(
        SettingError, match=r"^There is no region 'west europe'; did you mean 'West Europe'\?$"
    ):
        check_region("west europe")
    with pytest.raises(SettingError, match="did you mean 'Japan West' or 'Japan East'"):
        check_region("japan")
    with pytest.raises(SettingError, match="the table has Australia Central, "):
        check_region("zz9")

"""Stress tests: malformed uploads and calls, many simultaneous visitors, and faulty configs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stress import visitors
from tests.support.stress.configurations import configurations
from tests.support.stress.outcome import Outcome
from tests.support.stress.page import Server
from tests.support.stress.uploads import uploads


@pytest.fixture(scope="module")
def server(space: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(space, tmp_path_factory.mktemp("server")) as running:
        yield running
    assert "Traceback" not in running.log.read_text()


def assert_no_failures(outcome: Outcome) -> None:
    assert not outcome.failures, "\n".join(outcome.report())


def test_malformed_uploads_are_handled(server: Server) -> None:
    assert_no_failures(*visitors.in_turn(visitors.malformed_uploads(server, uploads(52))))


def test_malformed_upload_forms_are_handled(server: Server) -> None:
    assert_no_failures(*visitors.in_turn(visitors.odd_forms(server)))


def test_malformed_api_calls_are_handled(server: Server) -> None:
    assert_no_failures(*visitors.in_turn(visitors.malformed_calls(server, 60)))


def test_decompression_bombs_take_little_time_and_memory(server: Server) -> None:
    # The benchmark allows 2 s on an idle machine; here, other tests compete for the CPU
    assert_no_failures(*visitors.in_turn(visitors.decompression_bombs(server, max_seconds=20)))


def test_every_route_and_event_handles_invalid_input(server: Server) -> None:
    assert_no_failures(*visitors.in_turn(visitors.every_route(server)))


def test_visitors_cannot_read_files_or_make_the_server_fetch_urls(server: Server, space: Path) -> None:
    assert_no_failures(*visitors.in_turn(visitors.foreign_files(server, space)))


def test_simultaneous_visitors_get_results_or_a_busy_message(server: Server) -> None:
    assert_no_failures(*visitors.in_turn(visitors.flood(server, 40)))


def test_concurrent_users_get_the_same_results_as_a_single_user(server: Server) -> None:
    assert_no_failures(*visitors.in_turn(visitors.users(server, 8, 3)))


def test_faulty_configs_are_refused_in_one_line() -> None:
    assert_no_failures(configurations(40))

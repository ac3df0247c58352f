"""The page among strangers: broken files, wrong calls, too many at once; and faulty configurations."""

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


def withstood(outcome: Outcome) -> None:
    assert not outcome.failures, "\n".join(outcome.report())


def test_malformed_uploads_are_answered(server: Server) -> None:
    withstood(*visitors.in_turn(visitors.malformed_uploads(server, uploads(52))))


def test_uploads_whose_form_is_wrong_are_answered(server: Server) -> None:
    withstood(*visitors.in_turn(visitors.odd_forms(server)))


def test_malformed_calls_are_answered(server: Server) -> None:
    withstood(*visitors.in_turn(visitors.malformed_calls(server, 60)))


def test_decompression_bombs_cost_little(server: Server) -> None:
    # The benchmark holds each to 2 s of an idle machine; here, other tests take the processor too
    withstood(*visitors.in_turn(visitors.decompression_bombs(server, most_seconds=20)))


def test_every_route_and_event_answers_nonsense(server: Server) -> None:
    withstood(*visitors.in_turn(visitors.every_route(server)))


def test_no_file_is_read_and_no_address_fetched_for_a_stranger(server: Server, space: Path) -> None:
    withstood(*visitors.in_turn(visitors.foreign_files(server, space)))


def test_a_crowd_gets_results_or_is_told_that_the_page_is_busy(server: Server) -> None:
    withstood(*visitors.in_turn(visitors.flood(server, 40)))


def test_users_at_once_get_what_each_would_alone(server: Server) -> None:
    withstood(*visitors.in_turn(visitors.users(server, 8, 3)))


def test_faulty_configurations_are_refused_in_a_line() -> None:
    withstood(configurations(40))

"""The measuring code runs and tells the truth about itself; its figures are nobody's business here."""

import asyncio
import json
from pathlib import Path

import pytest
from benchmarks.client import Answer, RequestFailed, Target, ask_once, closed_loop
from benchmarks.double import TOKENS_MAX, openai_answer
from benchmarks.engine_load import chat_body, engine_tokens, fresh_text, recorded, studio_tokens
from benchmarks.figures import Budget, Effort, Figure
from benchmarks.machine import machine
from benchmarks.picture import picture, share_of_budget
from benchmarks.processes import gateway, passthrough
from benchmarks.report import BEGIN, END, Report, write_json, write_page

from benchmarks import generation, latency, parsing, start, streams, throughput

GAP_S = 0.01
TINY = Effort(turns=1, load_s=0.1, pairs=10, engine_turns=1, streams=20, starts=1)


def figure(value: float, limit: float, *, at_least: bool) -> Figure:
    return Figure("row", "what <it> is", "nothing", value, " ms", Budget(limit, at_least), "this")


async def test_gateway_and_passthrough_answer_from_the_same_double() -> None:
    body = chat_body(throughput.TEXT, tokens=5, stream=False)
    with gateway(gap_s=GAP_S, slots=4, context=512) as studio, passthrough(studio.engine) as bare:
        keyless = Target(path=studio.target.path, port=studio.port)
        bare_target = Target(path="/stream", port=bare.port)
        ours = await ask_once(studio.target, studio.target.request(body))
        theirs = await ask_once(bare_target, bare_target.request(body))
        load = await closed_loop(studio.target, body, clients=2, seconds=5, requests_max=6)
        with pytest.raises(RequestFailed, match="401"):
            await ask_once(keyless, keyless.request(body))
        (ask,) = await recorded(studio, [body])
        times = await latency.take_times(studio, bare, ask, 2, lambda: None)
        assert studio.cpu_s() > 0
        assert studio.resident_bytes() > 10 * 2**20
    assert json.loads(ours.raw)["usage"]["completion_tokens"] == 5
    assert engine_tokens(theirs.body()) == theirs.events - 1 == 5
    # Paced: five tokens and the end, each a step after the other.
    assert theirs.seconds - theirs.first_s > 4 * GAP_S
    assert json.loads(ask.engine)["n_predict"] == 5
    assert len(times.studio) == len(times.bare) == len(times.direct) == 2
    assert 6 <= len(load.answers) <= 7


async def test_requests_of_a_loop_are_numbered() -> None:
    bodies: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
            bodies.append(await reader.readexactly(10))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        target = Target(path="/", port=server.sockets[0].getsockname()[1])
        await closed_loop(target, b"<00000000>", clients=1, seconds=5, requests_max=3)
    assert bodies == [b"<00000000>", b"<00000001>", b"<00000002>"]


def test_counts_are_the_servers_own() -> None:
    ours = b'data: {"usage":null}\n\ndata: {"usage":{"completion_tokens":7}}\n\ndata: [DONE]\n\n'
    assert studio_tokens(ours) == 7
    with pytest.raises(ValueError, match="without usage"):
        studio_tokens(b'data: {"usage":null}\n\n')
    assert engine_tokens(b'data: {"stop":true,"tokens_predicted":3}\n\n') == 3
    with pytest.raises(ValueError, match="without its last event"):
        engine_tokens(b'data: {"stop":false,"tokens_predicted":3}\n\n')


def test_a_body_is_put_together_from_its_chunks() -> None:
    assert (
        Answer(raw=b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n").body()
        == b"abc0123456789abcdef"
    )


def test_prompts_of_a_turn_differ_from_their_first_word() -> None:
    assert fresh_text(1, 2)[:8] != fresh_text(2, 2)[:8]
    assert fresh_text(1, 2)[8:] == fresh_text(2, 2)[8:]


def test_the_double_counts_what_it_writes() -> None:
    _, _, body = openai_answer(9).partition(b"\r\n\r\n")
    assert json.loads(body)["usage"]["completion_tokens"] == 9
    assert TOKENS_MAX > streams.TOKENS


@pytest.mark.parametrize(
    ("value", "limit", "at_least", "met", "share"),
    [
        (0.6, 0.5, True, True, 0.5 / 0.6),
        (0.4, 0.5, True, False, 1.25),
        (2.0, 3.0, False, True, 2 / 3),
        (4.0, 3.0, False, False, 4 / 3),
        (-0.1, 3.0, False, True, 0.0),
        (0.0, 0.5, True, False, float("inf")),
    ],
)
def test_a_budget_is_met_or_missed(
    value: float, limit: float, at_least: bool, met: bool, share: float
) -> None:
    one = figure(value, limit, at_least=at_least)
    assert one.met is met
    assert share_of_budget(one) == pytest.approx(share)


def test_a_report_is_written_where_the_page_has_its_place(tmp_path: Path) -> None:
    figures = [figure(0.4, 0.5, at_least=True), figure(1.0, 3.0, at_least=False)]
    report = Report(machine(), 1.0, True, figures, {})
    assert not report.met
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_page(report, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "**missed**" in text
    assert "&lt;it&gt;" in page.with_suffix(".svg").read_text()
    write_json(report, tmp_path / "figures.json")
    written = json.loads((tmp_path / "figures.json").read_text())
    assert [one["met"] for one in written["figures"]] == [False, True]
    page.write_text("nothing")
    with pytest.raises(ValueError, match="no place"):
        write_page(report, page)
    assert picture([]).startswith("<svg")


async def test_each_length_of_an_answer_has_its_figure_and_their_growth_one_too() -> None:
    steps: list[None] = []
    figures = await parsing.per_chunk(TINY, lambda: steps.append(None))
    assert len(steps) == parsing.steps(TINY)
    *lengths, growth = figures
    assert len(lengths) == len(parsing.LENGTHS)
    assert all(one.value > 0 for one in lengths)
    assert growth.value == pytest.approx(lengths[-1].value / lengths[0].value)


def test_what_is_parsed_is_the_paragraph_in_words() -> None:
    assert "".join(parsing.CHUNKS) == parsing.PARAGRAPH
    assert len(parsing.PARAGRAPH) / len(parsing.CHUNKS) == pytest.approx(4.9, abs=0.1)


def test_every_benchmark_says_how_many_steps_it_takes() -> None:
    for one in (throughput, parsing, latency, generation, streams, start):
        assert one.steps(TINY) > 0


def test_a_stream_that_breaks_off_is_a_failure() -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata: \r\n")
        writer.close()
        await writer.wait_closed()

    async def run() -> None:
        async with await asyncio.start_server(broken, "127.0.0.1", 0) as server:
            target = Target(path="/", port=server.sockets[0].getsockname()[1])
            with pytest.raises(RequestFailed, match="before the answer"):
                await ask_once(target, target.request(b""))

    asyncio.run(run())

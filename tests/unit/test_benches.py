"""What `benches` makes of values, settings and servers; no engine, no peer and no clock is compared here."""

import json
import sys
import textwrap
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from benches import bandwidth, builds, compare, figures, measures, peers, rounds, server, sides
from benches.measures import AGAIN, BY_NAME, EARLIER, FILE, GREEDY, LLAMA, OURS, TORCH


def test_measures_of_a_group_share_one_model():
    for group in measures.GROUPS:
        assert len({one.model for one in measures.MEASURES if one.group == group}) == 1
    assert len(BY_NAME) == len(measures.MEASURES)
    assert set(measures.QUICK) <= set(measures.FULL) <= set(BY_NAME)


def test_a_ratio_is_above_one_where_we_are_better():
    faster = figures.compare("prefill_512", {OURS: [200.0, 220.0, 210.0], LLAMA: [100.0, 105.0, 110.0]})
    assert [row["ratio"] for row in faster] == [2.0]
    smaller = figures.compare("startup", {OURS: [0.5], LLAMA: [1.0]})
    assert smaller[0]["ratio"] == 2.0
    assert smaller[0]["interval_95"] is None


@pytest.mark.parametrize(("peer", "verdict"), [(140.0, "holds"), (140.2, "short")])
def test_a_target_is_reached_or_not(peer, verdict):
    row = figures.compare("prefill_512", {OURS: [210.0], LLAMA: [peer]})[0]
    assert (row["target"], row["must"], row["verdict"]) == (1.5, True, verdict)


def test_memory_is_also_compared_with_the_file():
    rows = figures.compare("memory", {OURS: [1250.0], LLAMA: [2000.0], FILE: [1000.0]})
    assert [(row["key"], row["verdict"]) for row in rows] == [("memory", None), ("memory file", "holds")]
    assert figures.compare("memory", {OURS: [1260.0], FILE: [1000.0]})[0]["verdict"] == "short"


def test_the_interval_holds_the_ratio_and_follows_the_pairs():
    measure = BY_NAME["prefill_512"]
    peer = np.random.default_rng(0).uniform(90, 110, 7)
    assert figures.interval(measure, list(2 * peer), list(peer)) == (2.0, 2.0)
    low, high = figures.interval(measure, list(2 * peer[::-1]), list(peer))
    assert low < 2 < high
    assert figures.interval(BY_NAME["startup"], [1.0] * 3, [2.0] * 3) == (2.0, 2.0)


def test_the_table_has_a_row_for_each_comparison():
    values = {OURS: [3.0, 3.5, 4.0], LLAMA: [2.0, 2.0, 2.0], TORCH: [1.0]}
    record = {"values": values, "comparisons": figures.compare("prefill_512", values)}
    lines = figures.table({"prefill_512": record}).splitlines()
    assert len(lines) == 3
    assert "1.75" in lines[1]
    assert ">= 1.50 must" in lines[1]
    assert lines[1].endswith("holds")
    assert figures.ratios({"prefill_512": record}) == {"prefill_512": 1.75}


def test_the_sides_take_turns_in_changing_order():
    calls = []
    measure = BY_NAME["decode_8"]
    values = rounds.in_turn([OURS, LLAMA], 3, measure, lambda side, number: calls.append((number, side)) or 1.0)
    assert calls == [(0, OURS), (0, LLAMA), (1, LLAMA), (1, OURS), (2, OURS), (2, LLAMA)]
    assert {side: len(each) for side, each in values.items()} == {OURS: 3, LLAMA: 3}


def test_a_side_without_a_target_takes_fewer_rounds():
    values = rounds.in_turn([OURS, LLAMA, TORCH], 5, BY_NAME["prefill_512"], lambda *_: 1.0)
    assert {side: len(each) for side, each in values.items()} == {OURS: 5, LLAMA: 5, TORCH: rounds.KNOWN_ROUNDS}


def test_the_best_settings_stay():
    class Peer:
        """Fastest without flash attention and with separate cells, whatever comes first."""

        def __init__(self):
            self.settings = {}

        def ask(self, call, **more):
            if call == "configure":
                self.settings = more
                return {}
            speed = (
                100 + 50 * (not self.settings["flash"]) - 10 * self.settings["unified"] - 5 * self.settings["repack"]
            )
            return {"seconds": 10.0, "done": 10 * speed}

    peer = Peer()
    best, tried = rounds.settle(peer, BY_NAME["decode_8"])
    assert best == peer.settings == {"flash": False, "unified": False, "repack": False}
    assert len(tried) == 4
    assert tried[0]["tok/s"] == 95.0


def test_only_results_of_this_engine_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "origin", lambda: {"commit": "c", "engine": "e"})
    mine = {"machine": compare.machine(), "threads": 2, "engine": "e"}
    place = tmp_path / "compare.json"
    held = {"decode_1": mine, "decode_8": {**mine, "engine": "other"}, "prefill_512": {**mine, "threads": 1}}
    compare.write(place, {"measures": held})
    assert list(compare.earlier(place, SimpleNamespace(threads=2, build=None))) == ["decode_1"]
    place.write_text("{")
    assert compare.earlier(place, SimpleNamespace(threads=2, build=None)) == {}


@pytest.mark.parametrize(
    ("change", "done"),
    [
        ({}, True),
        ({"rounds": 4}, False),
        ({"tried": []}, False),
        ({"values": {OURS: []}}, False),
        ({"model": "b"}, False),
    ],
)
def test_only_what_is_whole_is_skipped(change, done):
    options = SimpleNamespace(
        path=SimpleNamespace(name="a"), rounds=5, quick=False, without_us=False, peers=[LLAMA]
    )  # fmt: skip
    record = {"rounds": 5, "tried": [{}], "values": {OURS: [], LLAMA: []}, "model": "a", **change}
    assert compare.complete("decode_8", {"decode_8": record}, options) is done
    assert not compare.complete("decode_8", {}, options)


@pytest.fixture
def _one_build_against_another():
    held = dict(BY_NAME)
    measures.against_a_build()
    yield
    BY_NAME.update(held)


@pytest.mark.usefixtures("_one_build_against_another")
@pytest.mark.parametrize(
    ("ours", "again", "least", "verdict"),
    [
        ([98.0] * 3, [100.0] * 3, 0.97, "holds"),  # two percent behind
        ([96.0] * 3, [100.0] * 3, 0.97, "short"),  # four, and the earlier build is always the same
        ([96.0] * 3, [95.0] * 3, 0.95, "holds"),  # four, and the earlier build is five from itself
        ([96.0] * 3, [105.0] * 3, 0.95, "holds"),  # on whichever side
        ([94.0] * 3, [95.0] * 3, 0.95, "short"),
        ([90.0, 104.0, 92.0], [100.0] * 3, 0.97, "short"),  # eight, and ahead in a round: its own noise is no excuse
        ([90.0, 100.0], [80.0, 80.0], 0.97, "short"),  # of two rounds no spread is known
    ],
)
def test_another_build_may_be_ahead_by_three_percent_or_its_own_spread(ours, again, least, verdict):
    values = {OURS: ours, EARLIER: [100.0] * len(ours), AGAIN: again}
    row = figures.compare("decode_1", values)[0]
    assert (row["peer"], row["target"], row["must"], row["verdict"]) == (EARLIER, least, True, verdict)
    assert row["each_round"] == [each / 100 for each in ours]
    assert row["peer_again"]["each_round"] == [each / 100 for each in again]
    assert figures.table({"decode_1": {"values": values, "comparisons": [row]}}).splitlines()[1].endswith(verdict)


@pytest.mark.usefixtures("_one_build_against_another")
def test_where_less_is_better_the_spread_counts_alike():
    values = {OURS: [1.04] * 3, EARLIER: [1.0] * 3, AGAIN: [1.05] * 3}
    row = figures.compare("startup", values)[0]
    assert (row["target"], row["verdict"]) == (0.952, "holds")
    assert figures.compare("startup", {**values, AGAIN: [1.0] * 3})[0]["verdict"] == "short"


@pytest.mark.usefixtures("_one_build_against_another")
def test_against_a_build_nobody_else_is_measured():
    options = SimpleNamespace(without_us=False, peers=[])
    assert {tuple(rounds.chosen_sides(measure, options)) for measure in BY_NAME.values()} == {(OURS, EARLIER, AGAIN)}
    assert {OURS, EARLIER, AGAIN} <= set(sides.SIDES)
    calls = rounds.in_turn([OURS, EARLIER, AGAIN], 4, BY_NAME["decode_1"], lambda *_: 1.0)
    assert {side: len(each) for side, each in calls.items()} == {OURS: 4, EARLIER: 4, AGAIN: 4}


def test_records_beside_another_build_are_of_that_build(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "origin", lambda: {"commit": "c", "engine": "e"})
    build = builds.Build(tmp_path, "a.whl", "0123", "4567")
    mine = {"machine": compare.machine(), "threads": 2, "engine": "e"}
    held = {"decode_1": {**mine, "earlier": build.facts()}, "decode_8": mine}
    compare.write(tmp_path / "against.json", {"measures": held})
    for beside, found in ((build, "decode_1"), (None, "decode_8")):
        options = SimpleNamespace(threads=2, build=beside)
        assert list(compare.earlier(tmp_path / "against.json", options)) == [found]


def test_a_command_names_no_place_of_this_machine(tmp_path):
    told = compare.command(["--against", str(tmp_path / "a.whl"), "--rounds", "5"])
    assert told == "python benches/compare.py --against a.whl --rounds 5"


def _package(folder):
    """A package whose engine is text by a library's name."""
    (folder / "densecore").mkdir(parents=True)
    (folder / "densecore" / "__init__.py").write_text("")
    (folder / "densecore" / "_core.abi3.so").write_text("text")
    return folder


def test_a_build_that_is_none_says_so(tmp_path):
    for name, content, told in (
        ("absent.whl", None, "No such file"),
        ("text.whl", b"text", "is no wheel"),
        ("empty", "folder", "holds 0 libraries"),
    ):
        given = tmp_path / name
        if content == "folder":
            given.mkdir()
        elif content is not None:
            given.write_bytes(content)
        with pytest.raises(builds.BuildUnusable, match=told), builds.opened(given):
            pass
    with (
        pytest.raises(builds.BuildUnusable, match="cannot be imported here"),
        builds.opened(_package(tmp_path / "broken")),
    ):
        pass


def test_a_wheel_is_unpacked_and_comes_first(tmp_path):
    """The engine of this very installation, packed as a wheel: a side's process imports it from there."""
    import densecore._core as core

    wheel = tmp_path / "old.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("densecore/__init__.py", "")
        packed.write(core.__file__, "densecore/_core.abi3.so")
    with builds.opened(wheel) as build:
        assert build.folder.is_dir()
        assert build.engine == builds.digest(build.folder / "densecore" / "_core.abi3.so")
        for side in (EARLIER, AGAIN):
            env = rounds.environment(side, "qwen", SimpleNamespace(build=build))
            assert env["PYTHONPATH"].startswith(str(build.folder))
        ours = rounds.environment(OURS, "qwen", SimpleNamespace(build=build))
        assert not ours.get("PYTHONPATH", "").startswith(str(build.folder))
    assert not build.folder.exists()


def test_sampling_stands_beside_greedy():
    row = figures.compare("sampling_64", {OURS: [94.0] * 3, GREEDY: [100.0] * 3})[0]
    assert (row["target"], row["must"], row["verdict"]) == (0.95, True, "short")


def test_foreign_sources_are_not_compiled(tmp_path):
    archive = tmp_path / peers.SDIST
    archive.write_bytes(b"something else")
    with pytest.raises(peers.PeerMissing, match="SHA-256"):
        peers._check(archive)


def test_builds_with_other_flags_lie_elsewhere():
    assert peers.folder("server") != peers.folder("avx2")
    assert "-DGGML_AVX512=OFF" in peers.flags("avx2")


def test_requests_share_their_prefix_and_nothing_with_another_round():
    shape = {"requests": 5, "prefix": 30, "own": 4, "tokens": 2}
    first, second = server.prompts(shape, 0), server.prompts(shape, 1)
    assert {tuple(ids[:30]) for ids in first} == {tuple(first[0][:30])}
    assert len({tuple(ids[30:]) for ids in first}) == 5
    assert {len(ids) for ids in first} == {34}
    assert first[0][:30] != second[0][:30]
    assert first == server.prompts(shape, 0)


FAKE = """
import http.server, json, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self):
        self.answer({"status": "ok"})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(30 if asked["prompt"][0] == 0 else 0)
        self.answer({
            "tokens_predicted": asked["n_predict"] - (asked["prompt"][0] == 1),
            "timings": {"cache_n": 3},
        })

    def log_message(self, *_):
        pass

port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
SHAPE = {"requests": 4, "prefix": 3, "own": 2, "tokens": 5}
SETTINGS = {"slots": 2, "unified": False}


@pytest.fixture
def program(tmp_path):
    """A program that answers like `llama-server`; a prompt that begins with 0 takes too long, one with 1 is cut short."""
    path = tmp_path / "llama-server"
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(FAKE)}")
    path.chmod(0o755)
    return path


def test_a_server_is_driven_and_its_answers_counted(program, tmp_path, monkeypatch):
    ran = server.theirs(program, tmp_path / "model", 1, SHAPE, 0, SETTINGS)
    assert (ran["done"], ran["found"]) == (4, 0.6)
    monkeypatch.setattr(server, "prompts", lambda *_: [[1, 2]] * 4)
    with pytest.raises(RuntimeError, match="answered"):
        server.theirs(program, tmp_path / "model", 1, SHAPE, 0, SETTINGS)


def test_a_server_that_is_too_slow_is_broken_off(program, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "prompts", lambda *_: [[0, 2]] * 4)
    with pytest.raises(server.TooSlow):
        server.theirs(program, tmp_path / "model", 1, SHAPE, 0, SETTINGS, limit=0.5)


def test_the_best_slots_are_found_and_then_their_cells(monkeypatch):
    seconds = {8: 40.0, 16: 20.0, 32: 30.0, 64: 25.0}

    def run(*arguments, limit):
        settings = arguments[-1]
        took = seconds[settings["slots"]] - settings["unified"]
        if took > limit:
            raise server.TooSlow
        return {"seconds": took}

    monkeypatch.setattr(server, "theirs", run)
    best, tried = server.choose("", "", 2, SHAPE, lambda text: None)
    assert best == {"slots": 16, "unified": True}
    assert [(one["slots"], one["unified"], one["seconds"]) for one in tried] == [
        (32, False, 30.0), (16, False, 20.0), (64, False, "over 20.0"), (8, False, "over 20.0"), (16, True, 19.0),
    ]  # fmt: skip


def test_a_server_that_does_not_start_says_why(tmp_path):
    path = tmp_path / "llama-server"
    path.write_text(f"#!{sys.executable}\nraise SystemExit('no such model')\n")
    path.chmod(0o755)
    with pytest.raises(RuntimeError, match="no such model"):
        server.theirs(path, tmp_path / "model", 1, SHAPE, 0, SETTINGS)


def test_results_are_json(tmp_path):
    values = {OURS: [3.0, 3.5, 4.0], LLAMA: [2.0, 2.0, 2.0]}
    record = {
        "values": values, "comparisons": figures.compare("prefill_512", values), "medians": figures.medians(values),
        "command": "c", "seconds": 1,
    }  # fmt: skip
    made = compare.result({"prefill_512": record}, {})
    assert made["short"] == []
    assert made["medians"] == {"prefill_512": {OURS: 3.5, LLAMA: 2.0}}
    compare.write(tmp_path / "made.json", made)
    assert json.loads((tmp_path / "made.json").read_text())["ratios"] == {"prefill_512": 1.75}


def test_a_token_reads_every_weight_but_an_embedding_beside_a_head(tmp_path):
    from gguf import GGUFReader
    from tests.tiny import make_tiny_gguf

    for tied in (True, False):
        path = make_tiny_gguf("qwen2", tmp_path / f"{tied}.gguf", "Q8_0", tied=tied)
        sizes = {tensor.name: int(tensor.n_bytes) for tensor in GGUFReader(str(path)).tensors}
        unread = 0 if tied else sizes["token_embd.weight"]
        assert bandwidth.bytes_per_token(path) == sum(sizes.values()) - unread


def test_the_bandwidth_counts_every_thread(monkeypatch):
    monkeypatch.setattr(bandwidth, "MIB", 1)
    monkeypatch.setattr(bandwidth, "LEAST_MIB", 3)
    ticks = iter(range(1000))
    monkeypatch.setattr(bandwidth.time, "perf_counter", lambda: next(ticks))  # every pass takes one second
    assert bandwidth.read_gb_per_second(3) == 3 * (1 << 20) / 1e9

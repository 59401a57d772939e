"""What verbs say: names, lines, progress, and results in their order."""

import functools
import json

from clapjax.cli import show
from clapjax.cli.caption import told
from clapjax.cli.inputs import Files, label_lines, print_each, printable
from clapjax.plain import read_lines


def test_names_that_are_not_utf8():
    assert printable("a\udce9.wav") == r"a\xe9.wav" and printable("é犬.wav") == "é犬.wav"


def test_a_name_is_in_one_line():
    """And as it is in JSON, which has a way of its own."""
    for odd in ("a\nb.wav", "a\r\nb", "a\tb", "a\x1b[2Jb", "a\u2028b"):
        found = {"probabilities": {"dog": 0.5}}
        (line,) = label_lines(odd, found, lambda _: ["dog"], False)
        assert len(line.splitlines()) == 1 and line.endswith("  dog")
        assert told(odd, [], None) == [f"{show.in_line(odd)}  (no caption)"]
        (line,) = label_lines(odd, found, lambda _: ["dog"], True)
        assert json.loads(line)["file"] == odd
    assert show.in_line("é 犬 👨\u200d👩.wav") == "é 犬 👨\u200d👩.wav"


def test_read_lines(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\n\n two\u2028half \n".encode())
    assert read_lines(tmp_path / "a.txt") == ["one", "two\u2028half"]


def test_progress_in_a_log(monkeypatch, capsys):
    """How long the first item takes is not in the rate, for a model is compiled."""
    clock = iter([0, *range(1000, 2000, 20)])
    monkeypatch.setattr(show.time, "perf_counter", lambda: float(next(clock)))
    assert list(show.progress(range(4), 4, "embedding")) == [0, 1, 2, 3]
    assert capsys.readouterr().err.splitlines() == [
        "embedding: 3/4, 0.1/s, 0 min 20 s left",
        "embedding: 4 in 1080.0 s (0.0/s)",
    ]


def test_progress_of_an_unknown_number_and_of_what_need_not_be_done(monkeypatch, capsys):
    clock = iter(range(0, 1000, 50))
    monkeypatch.setattr(show.time, "perf_counter", lambda: float(next(clock)))
    for total, skipped in ((None, 3), (7, 3)):
        with show.Progress(total, "embedding") as shown:
            shown.skip(skipped)
            for _ in range(2):
                shown.step()
    assert [line for line in capsys.readouterr().err.splitlines() if " in " not in line] == [
        "embedding: 2, 0.0/s",
        "embedding: 2/4, 0.0/s, 1 min 40 s left",
    ]


def test_results_are_printed_in_order_as_soon_as_they_can_be(capsys):
    """Each with what comes before it, of so many files at once as are heard together."""
    given, seen = Files(["a", "b", "c", "d", "e"], None, 5, True), []

    def hear(some):
        seen.append(some)
        for index in range(len(some))[::-1]:
            seen.append(capsys.readouterr().out)
            yield index, ValueError("broken") if some[index] == "d" else some[index].upper()

    told = functools.partial(print_each, "tag", "tagging", lines=lambda name, x: [f"{name} {x}"])
    assert told(given, hear, at_once=3) == 1
    assert seen == [["a", "b", "c"], "", "", "", ["d", "e"], "a A\nb B\nc C\n", ""]
    captured = capsys.readouterr()
    assert captured.out == "e E\n" and "clapjax tag: broken" in captured.err
    good = Files(["a"], None, None, True)
    assert told(good, lambda some: [(0, 1)]) == 0
    assert told(Files(["a"], None, 1, False), lambda some: [(0, 1)]) == 1
    assert told(good, lambda some: [(0, ValueError("broken"))]) == 2

"""What a step costs a row, and that it stays what docs/performance.md says."""

import json
import re

import pytest

from benchmarks.step_cost import main
from tests.conftest import REPO, SHARED

CAPTIONS = SHARED / "captions" / "audiocaps_val.csv"


def cost(capsys, config: str, *arguments: str) -> dict:
    assert main(["--config", config, "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_caption_costs_its_tokens(capsys, tmp_path):
    file = tmp_path / "captions.jsonl"

    def of(words: int, *arguments: str) -> dict:
        rows = [{"captions": [" dog" * words]}] * 8
        file.write_text("\n".join(map(json.dumps, rows)))
        small = "--config.packed_rows=1", "--config.model.text.layers=4", "--config.batch_size=16"
        arguments = (f"--captions={file}", *small, *arguments)
        return cost(capsys, "configs/demo.py:runlocal", *arguments)

    short, long, alone = of(6), of(20), of(6, "--negatives=0")
    assert (short["tokens_per_caption"], long["tokens_per_caption"]) == (8, 22)
    # Rows of 64 tokens: of eight captions of 8 tokens, or of two of 22.
    assert (short["chunks"], long["chunks"], alone["chunks"]) == (4, 16, 2)
    assert short["padded_tokens_per_caption"] == 8 and alone["padded_tokens_per_caption"] == 8
    assert long["padded_tokens_per_caption"] == 32
    row = (long["matrix_gflop_per_row"] - short["matrix_gflop_per_row"]) / 12
    assert short["matrix_gflop_per_row"] - alone["matrix_gflop_per_row"] == pytest.approx(2 * row)
    assert cost(capsys, "configs/demo.py:runlocal")["tokens_per_caption"] == 20


@pytest.mark.skipif(not CAPTIONS.is_file(), reason="AudioCaps is not beside this checkout")
@pytest.mark.parametrize("name", ["t_clap", "laion_clap"])
def test_a_step_costs_what_the_table_says(capsys, name):
    """And as little beside what it cost with captions padded to 77 tokens as was asked for."""
    line = re.search(
        rf"^\| configs/{name}\.py \| [^|]* \| ([\d.]+) \| ([\d.]+) \| (\d+) % \|",
        (REPO / "docs" / "performance.md").read_text(),
        re.MULTILINE,
    )
    padded, packed, share = map(float, line.groups())
    # A tokenizer of the captions' own, as where roberta-base cannot be loaded.
    own = "--config.data.tokenizer=records", "--config.data.vocab_size=50265"
    arguments = f"--captions={CAPTIONS}", "--negatives=0.25", *own
    found = cost(capsys, f"configs/{name}.py", *arguments)["matrix_gflop_per_row"]
    assert found == pytest.approx(packed, rel=0.03)
    assert share == round(100 * packed / padded)
    assert share <= {"t_clap": 55, "laion_clap": 75}[name]

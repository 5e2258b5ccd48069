"""Examples from files, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspex_bus.errors import DspexError
from dspex_services.evaluation.datasets import load_dataset, write_jsonl

ROWS = [{"question": "1 + 1?", "answer": "2"}, {"question": "Größe?", "answer": ""}]


def test_every_format_gives_the_same_examples(tmp_path: Path) -> None:
    assert write_jsonl(ROWS, tmp_path / "a.jsonl") == 2
    (tmp_path / "a.json").write_text('[{"question": "1 + 1?", "answer": "2"}, {"question": "Größe?", "answer": ""}]')
    (tmp_path / "a.csv").write_text('question,answer\n"1 + 1?",2\nGröße?,\n', encoding="utf-8-sig")
    found = [load_dataset(tmp_path / name) for name in ("a.jsonl", "a.json", "a.csv")]
    assert [list(one.rows) for one in found] == [ROWS] * 3
    assert len({one.digest for one in found} | {load_dataset(ROWS).digest}) == 1
    assert found[0].fields == ("question", "answer")
    assert len(found[0].first(1)) == 1


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": \n', "line 2"),
        ("a.jsonl", "[1]\n", "line 1"),
        ("a.json", '{"a": 1}', "list"),
        ("a.csv", "a,b\n1,2\n3\n", "row 3"),
        ("a.csv", "a,b\n", "no examples"),
        ("a.txt", "a", ".txt"),
    ],
)
def test_what_is_no_data_set_is_refused_with_its_place(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DspexError) as refused:
        load_dataset(tmp_path / name)
    assert refused.value.code == "invalid_dataset"
    assert said in refused.value.message


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(DspexError) as refused:
        load_dataset(tmp_path / "none.jsonl")
    assert refused.value.code == "file_unreadable"


def test_a_folder_that_datasets_saved(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    import pyarrow

    def saved(rows: Any, fingerprint: str) -> Any:
        """Without it, saving is as fragile as the pickles that fingerprints are made of."""
        return datasets.Dataset(datasets.table.InMemoryTable(pyarrow.Table.from_pylist(rows)), fingerprint=fingerprint)

    parts = {"train": saved(list(ROWS), "a"), "dev": saved(list(ROWS[1:]), "b")}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    assert load_dataset(tmp_path / "saved", split="dev").rows == (ROWS[1],)
    with pytest.raises(DspexError, match="dev, train"):
        load_dataset(tmp_path / "saved")

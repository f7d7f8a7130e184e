"""The examples of docs/data.md run, in small."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from tests.data.pictures import write_folder, write_shard

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"
SMALLER = {
    'load("cifar10", root="sets")': 'load("digits")',
    "224, 224": "32, 32",
    '"resnet50"': '"resnet18"',
    "nb_epochs=50": "nb_epochs=1",
    "crop=RandomCrop())": "crop=RandomCrop(), workers=0)",
    'augment="flip")': 'augment="flip", steps=1, validation_steps=1, progress=False)',
    "/sets/imagenet-train-{0000..1023}.tar": "{0000..0001}.tar",
    ", size=1_281_167": "",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("webdataset")
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val"):
        write_folder(tmp_path / "imagenette" / split, {"church": 3, "tench": 3}, size=(40, 40))
    for i in range(2):
        write_shard(tmp_path / f"000{i}.tar", range(3 * i, 3 * i + 3))
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL))
    for words, fewer in SMALLER.items():
        assert words in code
        code = code.replace(words, fewer)
    (tmp_path / "example.py").write_text(code)
    names = runpy.run_path("example.py")
    assert np.bincount(names["y"]).size == 2
    assert len(names["trainer"].history) == 1
    assert names["batches"].size == 6
